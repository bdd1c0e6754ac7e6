// The first program of every tutorial, for an instance: see README.md.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *name = getenv("EXAMPLE");
    printf("Hello %s from an enclave, %d argument%s\n", name ? name : "world", argc - 1, argc == 2 ? "" : "s");
    for (int i = 1; i < argc; i++)
        puts(argv[i]);
    return 0;
}
