/* Stage 3g in C: port */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void grim_reaper(int number)
{
    int saved = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = saved;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {0};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *) &address, sizeof address) || listen(listener, 1024)) {
        perror("cannot listen");
        return 1;
    }
    struct sigaction action = {.sa_handler = grim_reaper};
    sigaction(SIGCHLD, &action, NULL);
    for (;;) {
        char request[65536];
        int connection = accept(listener, NULL, NULL);
        if (connection < 0 && errno == EINTR)
            continue;
        if (fork() == 0) {
            close(listener);
            ssize_t size = read(connection, request, sizeof request);
            if (size > 0) {
                write(connection, "HTTP/1.1 200 OK\r\n\r\nHello\n", 25);
                write(1, request, size);
            }
            _exit(0);
        }
        close(connection);
    }
}
