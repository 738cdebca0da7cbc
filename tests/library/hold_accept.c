/* Holds accept(2) and accept4(2) back for 60 ms before the call, to make a gap certain: a
 * signal that comes just before the call runs its handler, and does not interrupt the call.
 *
 * cc -shared -fPIC -o hold_accept.so tests/library/hold_accept.c -ldl
 * LD_PRELOAD=$PWD/hold_accept.so .venv/bin/pytest                       (ld.so(8), Linux)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/socket.h>

static void hold(void)
{
    struct timespec left = {0, 60 * 1000 * 1000};
    while (nanosleep(&left, &left) != 0)
        ;  /* a signal's handler has run */
}

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
    hold();
    int (*call)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");
    return call(fd, address, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    hold();
    int (*call)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    return call(fd, address, length, flags);
}
