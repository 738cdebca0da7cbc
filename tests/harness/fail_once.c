/* Makes a failure certain that the loopback never shows: the first accept(2), or recv(2), that finds something fails
 * in each process with the error whose number is in FAIL_ACCEPT, or FAIL_RECV. Nothing is taken from the kernel.
 *
 * cc -shared -fPIC -o fail_once.so tests/harness/fail_once.c
 * LD_PRELOAD=$PWD/fail_once.so FAIL_ACCEPT=103 python3 webserver3g.py          (ld.so(8), Linux; 103: ECONNABORTED)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Whether this call is to fail. A blocking call waits here first, as it would in the kernel. */
static int fails(int fd, const char *name, int *failed)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    if (getenv(name) == NULL || *failed || poll(&ready, 1, -1) < 1)
        return 0;
    *failed = 1;
    errno = atoi(getenv(name));
    return 1;
}

static int accept_failed, recv_failed;

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
    int (*call)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");
    return fails(fd, "FAIL_ACCEPT", &accept_failed) ? -1 : call(fd, address, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    int (*call)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    return fails(fd, "FAIL_ACCEPT", &accept_failed) ? -1 : call(fd, address, length, flags);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    ssize_t (*call)(int, void *, size_t, int) = dlsym(RTLD_NEXT, "recv");
    return fails(fd, "FAIL_RECV", &recv_failed) ? -1 : call(fd, buffer, size, flags);
}
