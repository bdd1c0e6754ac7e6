/* A process that read a page of a file ends after the file was changed; the next one maps the same file at the same place
 * and prints what it sees there: the file as it is now. Again and again, sooner than the times of some hosts tell.
 *
 * Arguments: the directory of the file.
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

int main(int argc, char **argv) {
    char name[4096], page[SIZE] = "";
    snprintf(name, sizeof name, "%s/keptpage.XXXXXX", argv[1]);
    int fd = mkstemp(name);
    if (fd < 0 || unlink(name) || ftruncate(fd, SIZE))
        return 3;
    for (int i = 0; i < 50; i++) {
        if (fork() == 0) {
            int seen = *(volatile char *)map(fd);
            sprintf(page, "version %d", i);
            _exit(seen == (i ? 'v' : 0) && pwrite(fd, page, SIZE, 0) == SIZE ? 0 : 4);
        }
        int status;
        wait(&status);
        if (status)
            return 4;
        if (fork() == 0) {
            printf("%s\n", map(fd));
            exit(0);
        }
        wait(NULL);
    }
    return 0;
}
