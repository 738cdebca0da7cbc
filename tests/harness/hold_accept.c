/* Makes a gap certain that is luck otherwise. accept(2) is held back for 60 ms where it
 * would block: a signal that comes meanwhile runs its handler, and does not interrupt the
 * call. The time is spent running, not asleep: whoever looks at the process sees that it
 * is not in accept yet.
 *
 * cc -shared -fPIC -o hold_accept.so tests/library/hold_accept.c
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
        return; /* a client is in the queue, or it is no socket */
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
