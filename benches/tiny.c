/* The smallest program that the spawn benchmark starts. */
int main(void) { return 0; }
