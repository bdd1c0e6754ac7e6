/* A process that read a page of a file ends after the file was changed; the next one maps the same file at the same place
 * and prints what it sees there: the file as it is now.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 4096
#define PLACE ((char *)0x40000000)

static char *map(int fd) {
    char *p = mmap(PLACE, SIZE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
    if (p != PLACE)
        _exit(2);
    return p;
}

int main(void) {
    char name[] = "/tmp/keptpage.XXXXXX", old[SIZE] = "old", new[SIZE] = "new";
    int fd = mkstemp(name);
    if (fd < 0 || unlink(name) || pwrite(fd, old, SIZE, 0) != SIZE)
        return 3;
    if (fork() == 0) {
        if (*(volatile char *)map(fd) != 'o' || pwrite(fd, new, SIZE, 0) != SIZE)
            _exit(4);
        _exit(0);
    }
    wait(NULL);
    if (fork() == 0) {
        printf("%s\n", map(fd));
        exit(0);
    }
    wait(NULL);
    return 0;
}
