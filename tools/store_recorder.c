// What a host does with the file of a sealed store, seen and spoiled: for tests, preloaded into the host's process.
//
// STORE_FILE        the store
// STORE_LOG         every write and flush of it that succeeded is appended here, and what goes to standard output; the
//                   order is that in which they ended. A record: kind (1), offset (8), length (4), bytes.
// STORE_FAULT       CALL:FROM:COUNT:ERRNO - of pread, pwrite or fsync, as many calls fail from this one on, counted
//                   from 1, which is the first after the file in STORE_ARMED exists. ERRNO 0: half is done (pread, pwrite).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef ssize_t (*pread_fn)(int, void *, size_t, off_t);
typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off_t);
typedef int (*fsync_fn)(int);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static struct stat store;
static char fault_call[16];
static long fault_from, fault_count, fault_errno, seen;
static int armed;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STORE_LOG"), *fault = getenv("STORE_FAULT");
    // The environment goes on into the enclave.
    unsetenv("LD_PRELOAD");
    if (!getenv("STORE_FILE") || stat(getenv("STORE_FILE"), &store) != 0) {
        store.st_ino = 0;
        return;
    }
    if (path)
        log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fault && sscanf(fault, "%15[^:]:%ld:%ld:%ld", fault_call, &fault_from, &fault_count, &fault_errno) != 4)
        abort();
}

static int is_store(int fd) {
    struct stat st;
    return store.st_ino && fstat(fd, &st) == 0 && st.st_ino == store.st_ino && st.st_dev == store.st_dev;
}

static int is_armed(void) {
    const char *path = getenv("STORE_ARMED");
    return armed |= !path || access(path, F_OK) == 0;
}

// Is it this call's turn to fail?
static int fails(const char *call) {
    if (strcmp(call, fault_call) != 0 || !is_armed())
        return 0;
    seen++;
    return seen >= fault_from && seen - fault_from < fault_count;
}

static void put(char kind, uint64_t at, const void *data, uint32_t length) {
    static write_fn real;
    char head[13];
    if (log_fd < 0)
        return;
    if (!real)
        real = (write_fn)dlsym(RTLD_NEXT, "write");
    head[0] = kind;
    memcpy(head + 1, &at, 8);
    memcpy(head + 9, &length, 4);
    if (real(log_fd, head, sizeof head) != sizeof head || (length && real(log_fd, data, length) != (ssize_t)length))
        abort();
}

ssize_t pread(int fd, void *data, size_t length, off_t at) {
    pread_fn real = (pread_fn)dlsym(RTLD_NEXT, "pread");
    if (is_store(fd)) {
        pthread_mutex_lock(&lock);
        int bad = fails("pread");
        pthread_mutex_unlock(&lock);
        if (bad && fault_errno) {
            errno = (int)fault_errno;
            return -1;
        }
        length = bad ? length / 2 : length;
    }
    return real(fd, data, length, at);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    pwrite_fn real = (pwrite_fn)dlsym(RTLD_NEXT, "pwrite");
    if (!is_store(fd))
        return real(fd, data, length, at);
    pthread_mutex_lock(&lock);
    int bad = fails("pwrite");
    ssize_t done = -1;
    if (bad && fault_errno)
        errno = (int)fault_errno;
    else
        done = real(fd, data, bad ? length / 2 : length, at);
    if (done > 0)
        put('W', (uint64_t)at, data, (uint32_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

static int flush(const char *name, int fd) {
    fsync_fn real = (fsync_fn)dlsym(RTLD_NEXT, name);
    if (!is_store(fd))
        return real(fd);
    pthread_mutex_lock(&lock);
    int done = -1;
    // What a failed flush leaves is unknown; here it is nothing.
    if (fails("fsync"))
        errno = (int)fault_errno;
    else if ((done = log_fd < 0 ? real(fd) : 0) == 0)
        put('F', 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int fsync(int fd) { return flush("fsync", fd); }
int fdatasync(int fd) { return flush("fdatasync", fd); }
ssize_t pread64(int fd, void *data, size_t length, off_t at) { return pread(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return pwrite(fd, data, length, at); }

ssize_t write(int fd, const void *data, size_t length) {
    write_fn real = (write_fn)dlsym(RTLD_NEXT, "write");
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, data, length);
    if (fd == STDOUT_FILENO && done > 0)
        put('A', 0, data, (uint32_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}
