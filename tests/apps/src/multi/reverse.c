#include "parts.h"
#include <string.h>

void reverse(char *text) {
    for (size_t i = 0, j = strlen(text); i + 1 < j; i++, j--) {
        char c = text[i];
        text[i] = text[j - 1];
        text[j - 1] = c;
    }
}
