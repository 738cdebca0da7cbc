/* The shortest loop that forks for each connection, as in others.py, in C.

   Type    cc -O2 -o fork benchmarks/fork.c && ./fork 8888     in one terminal,
           curl localhost:8888                                 in another. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char response[] =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Connection: close\r\n"
    "\r\n"
    "Hello, World!\n";

int main(int argc, char **argv)
{
    struct sockaddr_in address = {0};
    static char request[64 * 1024];
    int listen_socket, client_connection, on = 1;

    signal(SIGCHLD, SIG_IGN); /* the kernel keeps nothing of a child */
    listen_socket = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listen_socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(argc > 1 ? atoi(argv[1]) : 8888);
    if (bind(listen_socket, (struct sockaddr *) &address, sizeof address) == -1
        || listen(listen_socket, 1024) == -1) {
        perror("cannot listen");
        return 1;
    }
    for (;;) {
        client_connection = accept(listen_socket, NULL, NULL);
        if (client_connection == -1)
            continue;
        if (fork() == 0) {
            ssize_t size = read(client_connection, request, sizeof request);
            if (write(1, request, size > 0 ? size : 0) == -1
                || write(client_connection, response, strlen(response)) == -1)
                _exit(1);
            _exit(0);
        }
        close(client_connection);
    }
}
