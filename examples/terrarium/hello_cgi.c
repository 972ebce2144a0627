/* hello_cgi.c: a web page by CGI, as for any web server since 1993.
 *
 * python -m ziglang cc --target=wasm32-wasi -O2 -s hello_cgi.c -o hello_cgi.wasm */

#include <stdio.h>
#include <stdlib.h>

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

int main(int count, char **arguments) {
    char body[1024];
    size_t size = fread(body, 1, sizeof body, stdin);
    printf("Content-Type: text/plain; charset=utf-8\r\n\r\n");
    printf("%s %s%s\n", variable("REQUEST_METHOD"), variable("SCRIPT_NAME"), variable("PATH_INFO"));
    for (int i = 1; i < count; i++)
        printf("argument: %s\n", arguments[i]);
    if (size) {
        printf("body: ");
        fwrite(body, 1, size, stdout);
        printf("\n");
    }
    fprintf(stderr, "%zu bytes of body\n", size);
    return 0;
}
