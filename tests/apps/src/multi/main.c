#include "parts.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    char text[64] = "";
    for (int i = 1; i < argc; i++)
        strncat(text, argv[i], sizeof text - strlen(text) - 1);
    reverse(text);
    printf("%s %lu\n", text, checksum(text));
    return (int)(checksum(text) % 64);
}
