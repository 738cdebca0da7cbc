/* Widens a race so that it is hit every time. An accept(2) that would block starts 60 ms
 * later: a signal that arrives before runs its handler, and does not interrupt the call.
 * The process spends that time running, not asleep: it must not look as if it were in
 * accept already.
 *
 * cc -shared -fPIC -o hold_accept.so tests/harness/hold_accept.c
 * LD_PRELOAD=$PWD/hold_accept.so .venv/bin/pytest                       (ld.so(8), Linux)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <time.h>
#include <sys/socket.h>

static void hold(int fd)
{
    struct pollfd listening = {.fd = fd, .events = POLLIN};
    struct timespec start, now;

    if (poll(&listening, 1, 0) != 0)
        return; /* a client is in the queue, or fd is no socket */
    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < 60);
}

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
    int (*call)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");
    hold(fd);
    return call(fd, address, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    int (*call)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    hold(fd);
    return call(fd, address, length, flags);
}
