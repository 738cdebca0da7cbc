/* 4c with epoll. Without a free descriptor it gives up a spare one, to accept and drop who waits. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static const char response[] = "HTTP/1.1 200 OK\r\n\r\nHello!\n";

static void handle(int connection, int delay)
{
    static int requests;
    char request[65536];
    ssize_t length = read(connection, request, sizeof request - 1);
    if (length > 0) {
        request[length] = 0;
        request[strcspn(request, "\r")] = 0;
        write(connection, response, sizeof response - 1);
        printf("Request %d: %s\n", ++requests, request);
        fflush(stdout);
        sleep(delay);
    }
    close(connection);
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event event = {.events = EPOLLIN}, ready;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    int loop = epoll_create1(0), spare = open("/dev/null", O_RDONLY);

    signal(SIGPIPE, SIG_IGN);
    address.sin_port = htons(count > 2 ? atoi(arguments[1]) : 8888);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("listen");
        return 1;
    }
    event.data.fd = listener;
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
    while (epoll_wait(loop, &ready, 1, -1) >= 0) {
        if (ready.data.fd != listener) {
            epoll_ctl(loop, EPOLL_CTL_DEL, ready.data.fd, NULL);
            handle(ready.data.fd, count > 2 ? atoi(arguments[2]) : 0);
        } else if ((event.data.fd = accept(listener, NULL, NULL)) >= 0) {
            epoll_ctl(loop, EPOLL_CTL_ADD, event.data.fd, &event);
        } else if (errno == EMFILE) {
            close(spare);
            close(accept(listener, NULL, NULL));
            spare = open("/dev/null", O_RDONLY);
        }
    }
}
