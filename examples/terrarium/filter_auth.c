/* filter_auth.c: lets in who has a token, and tells the application who it is.
 *
 * The filter's configuration has a line "NAME TOKEN" for each user. Requests need "Authorization: Bearer TOKEN"; the application
 * gets "X-User: NAME" in its place, which nobody else can send it.
 *
 * python -m ziglang cc --target=wasm32-wasi -mexec-model=reactor -O2 -s filter_auth.c -o filter_auth.wasm */

#include "http_handler.h"

static char users[16384], authorization[1024];

/* Takes as long for a token that is wrong in its first character as for one that is wrong in its last. */
static int is_same(const char *one, size_t one_size, const char *other, size_t other_size) {
    unsigned char difference = one_size != other_size;
    for (size_t i = 0; i < one_size; i++)
        difference |= (unsigned char)(one[i] ^ other[i % (other_size + 1)]);
    return !difference;
}

static const char *user_of(const char *token, size_t token_size, size_t *name_size) {
    const char *found = NULL;
    for (const char *line = users; *line;) {
        size_t size = strcspn(line, "\n"), name = strcspn(line, " \n");
        if (name && name < size && token_size && is_same(token, token_size, line + name + 1, size - name - 1)) {
            found = line;
            *name_size = name;
        }
        line += size + (line[size] == '\n');
    }
    return found;
}

EXPORT(handle_request) uint64_t handle_request(void) {
    static const char scheme[] = "Bearer ";
    size_t name_size = 0;
    if (get_config(users, sizeof users - 1) >= sizeof users)
        return answer(500, "the configuration is too long\n");
    remove_header(REQUEST, "x-user", 6);
    const char *user = NULL;
    if (header(REQUEST, "authorization", authorization, sizeof authorization) &&
        !strncmp(authorization, scheme, sizeof scheme - 1)) {
        const char *token = authorization + sizeof scheme - 1;
        user = user_of(token, strlen(token), &name_size);
    }
    if (!user) {
        set_header(RESPONSE, "www-authenticate", "Bearer");
        return answer(401, "a token is needed\n");
    }
    remove_header(REQUEST, "authorization", 13);
    set_header_value(REQUEST, "x-user", 6, user, (uint32_t)name_size);
    return NEXT;
}

EXPORT(handle_response) void handle_response(uint32_t context, uint32_t is_error) {
    (void)context, (void)is_error;
}
