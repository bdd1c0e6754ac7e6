/* Start of a program: arguments, environment, auxiliary vector, constructors, exit handlers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

extern char **environ;
static int constructed;
__attribute__((constructor)) static void construct(void) { constructed = 42; }
static void bye(void) { puts("exit handler"); }

int main(int argc, char **argv) {
    atexit(bye);
    printf("hello from %d arguments, constructed %d\n", argc, constructed);
    for (int i = 1; i < argc; i++)
        printf("argv[%d] = <%s> %zu\n", i, argv[i], strlen(argv[i]));
    for (char **e = environ; *e; e++)
        puts(*e);
    printf("page size %lu, entry %d, random %d, phdr %d, aligned %d\n", getauxval(AT_PAGESZ),
           getauxval(AT_ENTRY) != 0, getauxval(AT_RANDOM) != 0, getauxval(AT_PHDR) != 0,
           (int)((unsigned long)__builtin_frame_address(0) & 15));
    char line[100];
    while (fgets(line, sizeof line, stdin))
        printf("stdin: %s", line);
    fprintf(stderr, "to standard error\n");
    return argc > 1 ? atoi(argv[1]) & 255 : 0;
}
