/* Loaded before libc: the n-th call that changes a file below a folder fails. Compiled by test_write_errors.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long left = 0; /* 0 is never */
static int with = 0;
static int for_good = 0;
static long calls = 0;

void fail(const char *below, long n, int error, int from_then_on) {
    strncpy(folder, below, sizeof folder - 1);
    left = n;
    with = error;
    for_good = from_then_on;
    calls = 0;
}

long counted(void) { return calls; }

static int fails(int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (strncmp(path, folder, strlen(folder))) return 0;
    calls++;
    if (!left) return 0;
    if (left > 1) {
        left--;
        return 0;
    }
    if (!for_good) left = 0;
    errno = with;
    return 1;
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t n) { return fails(fd) ? -1 : REAL(write)(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return fails(fd) ? -1 : REAL(pwrite)(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    return fails(fd) ? -1 : REAL(pwrite64)(fd, data, n, at);
}
int fsync(int fd) { return fails(fd) ? -1 : REAL(fsync)(fd); }
int ftruncate(int fd, off_t n) { return fails(fd) ? -1 : REAL(ftruncate)(fd, n); }
int ftruncate64(int fd, off64_t n) { return fails(fd) ? -1 : REAL(ftruncate64)(fd, n); }
int posix_fallocate(int fd, off_t at, off_t n) { return fails(fd) ? with : REAL(posix_fallocate)(fd, at, n); }
int posix_fallocate64(int fd, off64_t at, off64_t n) { return fails(fd) ? with : REAL(posix_fallocate64)(fd, at, n); }
