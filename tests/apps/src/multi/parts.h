#ifndef PARTS_H
#define PARTS_H
void reverse(char *text);
unsigned long checksum(const char *text);
#endif
