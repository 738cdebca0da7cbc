/* Stage 3g in C: port. The benchmarks compare our scripts with it, so its answer is theirs. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char response[] =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Connection: close\r\n"
    "\r\n"
    "Hello, World!\n";

static void grim_reaper(int number)
{
    int saved = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = saved;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    struct sigaction action = {.sa_handler = grim_reaper};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *) &address, sizeof address) || listen(listener, 1024)) {
        perror("cannot listen");
        return 1;
    }
    sigaction(SIGCHLD, &action, NULL);
    for (;;) {
        static char request[65536];
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue; /* a child has ended: EINTR */
        if (fork() == 0) {
            close(listener);
            ssize_t size = read(connection, request, sizeof request);
            if (size > 0) {
                write(connection, response, sizeof response - 1);
                write(1, request, size);
            }
            _exit(0);
        }
        close(connection);
    }
}
