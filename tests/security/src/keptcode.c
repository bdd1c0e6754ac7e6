/* Looks for code that another process of the same program left behind: a child runs code that it mapped from a file at a
 * fixed place and ends; a second child, which has something else or nothing there, calls the same place. Prints what that
 * call gave: a number, or the signal that ended the child.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLACE ((char *)0x40000000)
#define SIZE 4096

enum { LEFT = 7, OTHER = 8, PRIVATE = 9 };

static int left, other;

/* mov $number,%eax ; ret */
static void code(unsigned char *to, unsigned char number) {
    const unsigned char bytes[] = {0xb8, number, 0, 0, 0, 0xc3};
    memset(to, 0x90, SIZE);
    memcpy(to, bytes, sizeof bytes);
}

static int file(unsigned char number) {
    unsigned char page[SIZE];
    char name[] = "/tmp/keptcode.XXXXXX";
    int fd = mkstemp(name);
    code(page, number);
    if (fd < 0 || write(fd, page, SIZE) != SIZE || unlink(name))
        exit(2);
    return fd;
}

static void map(int prot, int fd) {
    int flags = MAP_PRIVATE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);
    if (mmap(PLACE, SIZE, prot, flags, fd, 0) != PLACE)
        _exit(100);
}

static int call(void) {
    return ((int (*)(void))PLACE)();
}

static void leave(void) {
    map(PROT_READ | PROT_EXEC, left);
}
static void nothing(void) {
}
static void other_file(void) {
    map(PROT_READ | PROT_EXEC, other);
}
static void no_right(void) {
    map(PROT_READ, left);
}
static void right_later(void) {
    map(PROT_READ | PROT_WRITE, -1);
    code((unsigned char *)PLACE, PRIVATE);
    if (mprotect(PLACE, SIZE, PROT_READ | PROT_EXEC))
        _exit(101);
}
static void half(void) {
    if (mmap(PLACE - SIZE, 2 * SIZE, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) != PLACE - SIZE)
        _exit(102);
}
static void gone(void) {
    leave();
    if (munmap(PLACE, SIZE))
        _exit(103);
}

static void child(const char *what, void (*prepare)(void)) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        prepare();
        _exit(call());
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        exit(3);
    if (what && WIFEXITED(status))
        printf("%s: %d\n", what, WEXITSTATUS(status));
    else if (what)
        printf("%s: signal %d\n", what, WTERMSIG(status));
    fflush(stdout);
}

static void after(const char *what, void (*prepare)(void)) {
    child(NULL, leave);
    child(what, prepare);
}

int main(void) {
    left = file(LEFT);
    other = file(OTHER);
    after("the same file", leave);
    after("another file", other_file);
    after("nothing", nothing);
    after("no right to execute", no_right);
    after("memory that becomes code", right_later);
    after("something larger", half);
    after("unmapped again", gone);
    child(NULL, leave);
    right_later();
    child("the parent's own code", nothing);
    child("the parent's own code again", nothing);
    return 0;
}
