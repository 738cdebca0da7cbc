/* Stage 3d in C: port */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct sockaddr_in address = {0};
    int one = 1, kept = 0, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *) &address, sizeof address) || listen(listener, 5)) {
        perror("bind");
        return 1;
    }
    for (;;) {
        char request[1024];
        pid_t pid;
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) {
            perror("accept");
            return 1;
        }
        pid = fork();
        if (pid < 0) {
            perror("fork");
            return 1;
        }
        if (pid == 0) {
            close(listener);
            if (read(connection, request, sizeof request) > 0)
                write(connection, "HTTP/1.1 200 OK\r\n\r\nhi\n", 22);
            _exit(0);
        }
        printf("kept: %d\n", ++kept);
    }
}
