/* count.c: counts lines, words and bytes of standard input; what count.cpp, count.rs and count.ts do, too. */
#include <ctype.h>
#include <stdio.h>

int main(int argc, char **argv) {
    char buffer[4096];
    size_t lines = 0, words = 0, bytes = 0, got;
    int in_word = 0;
    while ((got = fread(buffer, 1, sizeof buffer, stdin)) > 0) {
        bytes += got;
        for (size_t i = 0; i < got; i++) {
            int space = isspace((unsigned char)buffer[i]) != 0;
            lines += buffer[i] == '\n';
            words += in_word && space;
            in_word = !space;
        }
    }
    printf("%zu lines, %zu words, %zu bytes\n", lines, words + (size_t)in_word, bytes);
    for (int i = 1; i < argc; i++)
        printf("argument: %s\n", argv[i]);
    return argc == 1 ? 3 : 0;
}
