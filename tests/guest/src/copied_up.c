/* copied_up FILE: locks and maps a file of the image, then writes to it, which copies it up; says what became of them. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* May another process lock it? */
static int is_free(const char *path) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct flock whole = {.l_type = F_WRLCK};
        int fd = open(path, O_RDWR);
        _exit(fd < 0 ? 2 : fcntl(fd, F_SETLK, &whole) == 0);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDWR);
    struct flock whole = {.l_type = F_WRLCK};
    const char *shown = mmap(NULL, 4096, PROT_READ, MAP_SHARED, open(argv[1], O_RDONLY), 0);
    if (argc != 2 || fd < 0 || shown == MAP_FAILED || fcntl(fd, F_SETLK, &whole) < 0) {
        perror(argv[1]);
        return 1;
    }
    char before = shown[0];
    if (pwrite(fd, "#", 1, 0) != 1)
        perror("write");
    puts(is_free(argv[1]) == 0 ? "the lock holds" : "the lock is gone");
    whole.l_type = F_UNLCK;
    fcntl(fd, F_SETLK, &whole);
    puts(is_free(argv[1]) == 1 ? "the unlocked is free" : "the unlocked is locked");
    puts(before != '#' && shown[0] == '#' ? "the mapping shows what was written" : "the mapping shows what was");
    return 0;
}
