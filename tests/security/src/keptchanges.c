/* A process changes its private pages of a file, in each of several ways, and ends; or it leaves a secret in its memory. The
 * next one maps the file, or other memory, at the same places, also by mappings that grow there, and looks for what is left.
 * Children of a process see its changes.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 8
#define SIZE (PAGES * PAGE)
#define HERE ((char *)0x40000000)
#define THERE ((char *)0x41000000)

static int file;

static char *map(char *at, size_t len, int prot, int flags, int fd, off_t off) {
    char *p = mmap(at, len, prot, MAP_PRIVATE | MAP_FIXED | flags, fd, off);
    if (p != at)
        _exit(2);
    return p;
}
static char *move(char *from, size_t len, size_t new_len, char *to) {
    char *p = mremap(from, len, new_len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (p != to)
        _exit(3);
    return p;
}
static void only_read(char *at, size_t len) {
    if (mprotect(at, len, PROT_READ))
        _exit(4);
}

/* Where the changed pages are. */
static char *written(void) {
    char *p = map(HERE, SIZE, PROT_READ | PROT_WRITE, 0, file, 0);
    for (int i = 0; i < PAGES; i++)
        strcpy(p + i * PAGE, "changed");
    return p;
}
static char *read_only(void) {
    char *p = written();
    only_read(p, SIZE);
    return p;
}
static char *moved(void) { return move(read_only(), SIZE, SIZE, THERE); }
static char *moved_twice(void) { return move(move(read_only(), SIZE, SIZE, THERE), SIZE, SIZE, HERE); }
static char *grown(void) {
    char *p = move(read_only(), SIZE / 2, SIZE / 2, THERE);
    return mremap(p, SIZE / 2, SIZE, 0) == p ? p : (_exit(5), p);
}
static char *in_pieces(void) {
    char *p = written();
    for (int i = 0; i < PAGES; i++)
        only_read(p + (i * 3 % PAGES) * PAGE, PAGE);
    for (int i = 0; i < PAGES; i++)
        move(p + i * PAGE, PAGE, PAGE, THERE + i * PAGE);
    return THERE;
}
static char *without_rights(void) {
    char *p = written();
    if (mprotect(p, SIZE, PROT_NONE))
        _exit(6);
    p = move(p, SIZE, SIZE, THERE);
    only_read(p, SIZE);
    return p;
}
static char *executable(void) {
    char *p = moved();
    if (mprotect(p, SIZE, PROT_READ | PROT_EXEC))
        _exit(7);
    return p;
}

static const struct {
    const char *name;
    char *(*change)(void);
} ways[] = {
    {"read-only", read_only},       {"moved", moved},         {"moved twice", moved_twice},
    {"moved, then grown", grown},   {"in pieces", in_pieces}, {"without rights", without_rights},
    {"executable", executable},
};

/* How many of the pages say this. */
static int saying(const char *p, const char *text) {
    int n = 0;
    for (int i = 0; i < PAGES; i++)
        n += strcmp(p + i * PAGE, text) == 0;
    return n;
}
static int child(void) {
    fflush(stdout);
    return fork() == 0;
}
static void end(void) {
    fflush(stdout);
    _exit(0);
}

static void changes(void) {
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (child()) {
            char *p = ways[i].change();
            if (child()) {
                printf("%s: %d pages changed in a child\n", ways[i].name, saying(p, "changed"));
                end();
            }
            wait(NULL);
            _exit(0);
        }
        wait(NULL);
        if (child()) {
            map(HERE, SIZE, PROT_READ, 0, file, 0);
            map(THERE, SIZE, PROT_READ | PROT_EXEC, 0, file, 0);
            printf("then: %d and %d pages of the file\n", saying(HERE, "file"), saying(THERE, "file"));
            end();
        }
        wait(NULL);
    }
}

static void grow_up(void) {
    map(HERE, PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS, -1, 0);
    if (mremap(HERE, PAGE, SIZE, 0) != HERE)
        _exit(8);
}
static void grow_shared(void) {
    char *p = mmap(HERE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    if (p != HERE || ftruncate(file, PAGE) || ftruncate(file, SIZE) || mremap(HERE, PAGE, SIZE, 0) != HERE)
        _exit(9);
    memset(p, 0, PAGE);
}
static void grow_down(void) {
    map(HERE + SIZE - PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
    for (int i = PAGES; i-- > 0;)
        *(volatile char *)(HERE + i * PAGE);
}
static void leftovers(void) {
    static void (*const grow[])(void) = {grow_up, grow_shared, grow_down};
    for (size_t i = 0; i < sizeof grow / sizeof *grow; i++) {
        for (int is_same = 0; is_same < 2; is_same++) {
            if (child()) {
                char *p = map(HERE, SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS, -1, 0);
                for (int k = 0; k < PAGES; k++)
                    strcpy(p + k * PAGE, "secret");
                if (is_same && munmap(p, SIZE) == 0)
                    goto grow;
                _exit(0);
            }
            wait(NULL);
            if (!is_same && child()) {
            grow:
                grow[i]();
                printf("grown: %d pages empty\n", saying(HERE, ""));
                end();
            }
            wait(NULL);
        }
    }
}

int main(void) {
    char name[] = "/tmp/keptchanges.XXXXXX", page[PAGE] = "file";
    file = mkstemp(name);
    if (file < 0 || unlink(name))
        return 10;
    for (int i = 0; i < PAGES; i++)
        if (pwrite(file, page, PAGE, i * PAGE) != PAGE)
            return 11;
    changes();
    leftovers();
    return 0;
}
