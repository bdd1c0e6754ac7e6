/* Processes that use one file system at once: appends stay whole, content is what was written, names do not get lost. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { APPENDERS = 3, LINES = 1500, LINE = 64, PIECE = 60000, PIECES = 200, NAMES = 400 };

static void check(int good, const char *what) {
    if (!good) {
        printf("not so: %s\n", what);
        fflush(stdout);
        _exit(1);
    }
}

/* Lines of one writer among others', synced now and then. */
static void append(int who) {
    int fd = open("log", O_WRONLY | O_APPEND);
    char line[LINE + 1];
    for (int i = 0; i < LINES; i++) {
        snprintf(line, sizeof line, "%d %06d %*s\n", who, i, LINE - 10, "");
        check(write(fd, line, LINE) == LINE, "an append is whole");
        if (i % 100 == 99) check(fsync(fd) == 0, "fsync of the log");
    }
    _exit(0);
}

static unsigned char byte_at(size_t at) { return (unsigned char)(at * 2654435761u >> 13); }

/* A file that is written in odd pieces, each read back while others are still to come, and all of it at the end. */
static void stream(int who) {
    char name[16];
    unsigned char *piece = malloc(PIECE), *again = malloc(PIECE);
    snprintf(name, sizeof name, "stream%d", who);
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    for (size_t i = 0; i < PIECES; i++) {
        for (size_t k = 0; k < PIECE; k++) piece[k] = byte_at(i * PIECE + k + who);
        check(pwrite(fd, piece, PIECE, i * PIECE) == PIECE, "a piece is written");
        size_t before = i / 2;
        check(pread(fd, again, PIECE, before * PIECE) == PIECE, "a piece is read");
        for (size_t k = 0; k < PIECE; k++)
            check(again[k] == byte_at(before * PIECE + k + who), "a piece is what was written");
    }
    check(fsync(fd) == 0, "fsync of a stream");
    size_t all = (size_t)PIECE * PIECES;
    unsigned char *map = mmap(NULL, all, PROT_READ, MAP_SHARED, fd, 0);
    check(map != MAP_FAILED, "a stream is mapped");
    for (size_t k = 0; k < all; k++) check(map[k] == byte_at(k + who), "a mapping shows what was written");
    _exit(0);
}

/* Names that come, change and go. */
static void names(void) {
    char old[24], new[24];
    struct stat st;
    for (int i = 0; i < NAMES; i++) {
        snprintf(old, sizeof old, "name%d", i);
        snprintf(new, sizeof new, "other%d", i);
        int fd = open(old, O_WRONLY | O_CREAT | O_EXCL, 0600);
        check(fd >= 0 && write(fd, old, sizeof old) == sizeof old && close(fd) == 0, "a file is made");
        check(rename(old, new) == 0 && stat(old, &st) != 0, "a file is renamed");
        check(stat(new, &st) == 0 && st.st_size == sizeof old, "and found");
        if (i % 2) check(unlink(new) == 0, "a file is removed");
    }
    _exit(0);
}

static void check_log(void) {
    int next[APPENDERS] = {0};
    char line[LINE];
    int fd = open("log", O_RDONLY);
    for (int i = 0; i < APPENDERS * LINES; i++) {
        check(read(fd, line, LINE) == LINE && line[LINE - 1] == '\n', "the log has whole lines");
        int who = line[0] - '0', number = atoi(line + 2);
        check(who >= 0 && who < APPENDERS && number == next[who]++, "each writer's are in order");
    }
    check(read(fd, line, LINE) == 0, "and nothing else");
}

int main(void) {
    close(open("log", O_WRONLY | O_CREAT, 0600));
    for (int i = 0; i < APPENDERS; i++)
        if (fork() == 0) append(i);
    for (int i = 0; i < 2; i++)
        if (fork() == 0) stream(i);
    if (fork() == 0) names();
    int status, left = 0;
    while (wait(&status) > 0) check(status == 0, "every process ends well");
    check_log();
    char name[24];
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "other%d", i);
        left += access(name, F_OK) == 0;
    }
    printf("%d names are left\n", left);
    return 0;
}
