// fsx: random operations on one file against a model in memory, by every way that Linux offers to read and change content.
//
// fsx FILE OPERATIONS SEED [LENGTH_MAX]. What a file system says it does not support (EOPNOTSUPP) is not tried again and is
// named at the end, so is what was done. The first difference ends it, with the operations before it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, HISTORY = 24 };
enum op {
    READ, READV, MAP_READ, WRITE, WRITEV, APPEND, MAP_WRITE, TRUNCATE, ALLOCATE, KEEP, PUNCH, ZERO, COLLAPSE, INSERT,
    SEEK, SYNC, REOPEN, COPY, STAT, OPS
};
static const char *const names[OPS] = {
    "read", "readv", "map-read", "write", "writev", "append", "map-write", "truncate", "allocate", "allocate-keep-size",
    "punch", "zero-range", "collapse", "insert", "seek", "fsync", "reopen", "copy-file-range", "stat"};
static const int modes[OPS] = {[KEEP] = FALLOC_FL_KEEP_SIZE, [PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    [ZERO] = FALLOC_FL_ZERO_RANGE, [COLLAPSE] = FALLOC_FL_COLLAPSE_RANGE, [INSERT] = FALLOC_FL_INSERT_RANGE};

static const char *path;
static int fd;
static char *model, *buffer;
static long size, length_max;
static uint64_t state;
static long counts[OPS];
static char unsupported[OPS];
static struct { enum op op; long at, length, number; } history[HISTORY];

static uint64_t random64(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
static long below(long n) { return n > 0 ? (long)(random64() % (uint64_t)n) : 0; }

static _Noreturn void fail(const char *what, long a, long b) {
    int error = errno;
    printf("fsx: not so: %s (%ld, %ld; %s)\n", what, a, b, strerror(error));
    for (int i = 0; i < HISTORY; i++)
        if (history[i].number)
            printf("  %ld: %s at %ld, %ld bytes\n", history[i].number, names[history[i].op], history[i].at,
                   history[i].length);
    exit(1);
}
static void open_file(int flags) {
    if ((fd = open(path, O_RDWR | flags, 0600)) < 0)
        fail("open", flags, 0);
}
static void same(long at, long length, const char *found) {
    if (memcmp(model + at, found, (size_t)length) == 0)
        return;
    for (long i = 0; i < length; i++)
        if (model[at + i] != found[i])
            fail("content", at + i, found[i]);
}
static void fill(long length) {
    uint64_t word = random64();
    for (long i = 0; i < length; i += 8, word = word * 6364136223846793005 + 1442695040888963407)
        memcpy(buffer + i, &word, 8);
}
static void grow(long end) { size = end > size ? end : size; }

static void check_all(void) {
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size != size)
        fail("size", st.st_size, size);
    if (pread(fd, buffer, (size_t)length_max, 0) != size)
        fail("reading all", size, 0);
    same(0, size, buffer);
}

static int do_read(long at, long length, int vectors) {
    long want = at >= size ? 0 : length < size - at ? length : size - at, done;
    if (vectors) {
        long first = below(length);
        struct iovec v[2] = {{buffer, (size_t)first}, {buffer + first, (size_t)(length - first)}};
        done = preadv(fd, v, 2, at);
    } else
        done = pread(fd, buffer, (size_t)length, at);
    if (done != want)
        fail("length read", done, want);
    same(at, want, buffer);
    return 0;
}
static int do_write(long at, long length, enum op op) {
    long done;
    if (op == APPEND)
        at = size;
    if (at + length > length_max)
        length = length_max - at;
    if (length == 0)
        return 0;
    fill(length);
    if (op == WRITEV) {
        long first = below(length);
        struct iovec v[2] = {{buffer, (size_t)first}, {buffer + first, (size_t)(length - first)}};
        done = pwritev(fd, v, 2, at);
    } else if (op == APPEND) {
        int other = open(path, O_WRONLY | O_APPEND);
        done = write(other, buffer, (size_t)length);
        close(other);
    } else
        done = pwrite(fd, buffer, (size_t)length, at);
    if (done != length)
        fail("length written", done, length);
    memcpy(model + at, buffer, (size_t)length);
    grow(at + length);
    return 0;
}
static int do_map(long at, long length, int write) {
    if (size == 0 || length == 0)
        return 0;
    at %= size;
    length = length < size - at ? length : size - at;
    long first = at / PAGE * PAGE, whole = at + length - first;
    char *map = mmap(NULL, (size_t)whole, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, fd, first);
    if (map == MAP_FAILED)
        fail("mmap", first, whole);
    if (write) {
        fill(length);
        memcpy(map + (at - first), buffer, (size_t)length);
        memcpy(model + at, buffer, (size_t)length);
        if (msync(map, (size_t)whole, below(2) ? MS_SYNC : MS_ASYNC) != 0)
            fail("msync", first, whole);
    } else
        same(at, length, map + (at - first));
    if (munmap(map, (size_t)whole) != 0)
        fail("munmap", first, whole);
    return 0;
}
static int do_truncate(long at) {
    if (ftruncate(fd, at) != 0)
        fail("truncate", at, 0);
    if (at < size)
        memset(model + at, 0, (size_t)(size - at));
    size = at;
    return 0;
}
static int do_fallocate(enum op op, long at, long length) {
    int moves = op == COLLAPSE || op == INSERT, refused = 0;
    if (moves) {
        at = at / PAGE * PAGE;
        length = (length / PAGE + 1) * PAGE;
        refused = op == COLLAPSE ? at + length >= size : at >= size;
        if (op == INSERT && size + length > length_max)
            return 0;
    } else if (length == 0)
        return 0;
    if (fallocate(fd, modes[op], at, length) != 0) {
        if (errno == EOPNOTSUPP)
            return EOPNOTSUPP;
        if (refused && errno == EINVAL)
            return 0;
        fail("fallocate", at, length);
    }
    if (refused)
        fail("fallocate was not refused", at, length);
    long end = at + length, have = end < size ? end : size;
    if (op == COLLAPSE) {
        memmove(model + at, model + end, (size_t)(size - end));
        size -= length;
        memset(model + size, 0, (size_t)length);
    } else if (op == INSERT) {
        memmove(model + end, model + at, (size_t)(size - at));
        memset(model + at, 0, (size_t)length);
        size += length;
    } else {
        if ((op == PUNCH || op == ZERO) && at < size)
            memset(model + at, 0, (size_t)(have - at));
        if (op == ALLOCATE || op == ZERO)
            grow(end);
    }
    return 0;
}
// Data must be found where the model has some; holes may be reported as data, but not the other way.
static int do_seek(long at) {
    long data = lseek(fd, at, SEEK_DATA), hole = lseek(fd, at, SEEK_HOLE);
    if ((hole < 0) != (at >= size))
        fail("SEEK_HOLE", at, hole);
    if (data < 0 && errno != ENXIO)
        fail("SEEK_DATA", at, data);
    long end = data < 0 ? size : data;
    for (long i = at; i < end; i++)
        if (model[i])
            fail("data in a hole", i, end);
    return 0;
}
static int do_copy(long at, long length) {
    loff_t from = below(size), to = at;
    if (length > size - from)
        length = size - from;
    if (to + length > length_max || (to < from + length && from < to + length) || length == 0)
        return 0;
    long done = copy_file_range(fd, &from, fd, &to, (size_t)length, 0);
    if (done < 0)
        return errno == EINVAL ? EOPNOTSUPP : errno;
    if (done == 0 || done > length)
        fail("copy_file_range", done, length);
    memmove(model + at, model + from - done, (size_t)done);
    grow(at + done);
    return 0;
}

static int step(enum op op, long at, long length) {
    struct stat st;
    switch (op) {
    case READ: case READV: return do_read(at, length, op == READV);
    case WRITE: case WRITEV: case APPEND: return do_write(at, length, op);
    case MAP_READ: case MAP_WRITE: return do_map(at, length, op == MAP_WRITE);
    case TRUNCATE: return do_truncate(at);
    case SEEK: return do_seek(at);
    case COPY: return do_copy(at, length);
    case SYNC: return below(20) || fsync(fd) == 0 ? 0 : (fail("fsync", 0, 0), 0);
    case REOPEN: close(fd); open_file(0); return 0;
    case STAT: return fstat(fd, &st) == 0 && st.st_size == size ? 0 : (fail("size", st.st_size, size), 0);
    default: return do_fallocate(op, at, length);
    }
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    path = argv[1];
    long operations = atol(argv[2]);
    state = strtoull(argv[3], NULL, 0);
    length_max = argc > 4 ? atol(argv[4]) : 256 << 10;
    model = calloc(1, (size_t)length_max + PAGE);
    buffer = malloc((size_t)length_max + PAGE);
    open_file(O_CREAT | O_TRUNC);
    for (long i = 1; i <= operations; i++) {
        enum op op = (enum op)below(OPS);
        long at = below(below(4) ? size + 1 : length_max), most = below(8) ? 4 * PAGE : 24 * PAGE;
        if (below(3) == 0)
            at = at / PAGE * PAGE;
        long length = below(most < length_max - at ? most : length_max - at);
        history[i % HISTORY].op = op;
        history[i % HISTORY].at = at;
        history[i % HISTORY].length = length;
        history[i % HISTORY].number = i;
        if (unsupported[op])
            continue;
        int error = step(op, at, length);
        if (error == EOPNOTSUPP)
            unsupported[op] = 1;
        else if (error)
            errno = error, fail(names[op], at, length);
        counts[op]++;
        if (below(64) == 0)
            check_all();
    }
    check_all();
    close(fd);
    open_file(0);
    check_all();
    printf("fsx operations: %ld\n", operations);
    for (int i = 0; i < OPS; i++)
        if (unsupported[i])
            printf("not supported: %s\n", names[i]);
    return 0;
}
