/* filter_ab.c: shows half of the clients another version of a site, always the same one to each.
 *
 * The version is the cookie "variant", a or b; who has none gets one by its address. For b the path gets "/b" in front; the
 * application is also told by "X-Variant".
 *
 * python -m ziglang cc --target=wasm32-wasi -mexec-model=reactor -O2 -s filter_ab.c -o filter_ab.wasm */

#include "http_handler.h"

static char cookies[4096], address[64], uri[2 + 16384];

static char variant_of_cookie(void) {
    static const char name[] = "variant=";
    if (!header(REQUEST, "cookie", cookies, sizeof cookies))
        return 0;
    for (const char *cookie = cookies; *cookie;) {
        cookie += strspn(cookie, "; ");
        size_t size = strcspn(cookie, ";");
        char last = cookie[size ? size - 1 : 0];
        if (size == sizeof name && !strncmp(cookie, name, sizeof name - 1) && (last == 'a' || last == 'b'))
            return last;
        cookie += size;
    }
    return 0;
}

static char variant_of_address(void) {
    uint32_t size = get_source_addr(address, sizeof address), hash = 2166136261; /* FNV-1a */
    for (uint32_t i = 0; i < size && size <= sizeof address && address[i] != ':'; i++)
        hash = (hash ^ (unsigned char)address[i]) * 16777619;
    return "ab"[hash >> 16 & 1];
}

EXPORT(handle_request) uint64_t handle_request(void) {
    char variant = variant_of_cookie();
    if (!variant) {
        char cookie[] = "variant=?; Path=/; Max-Age=2592000; SameSite=Lax";
        cookie[8] = variant = variant_of_address();
        set_header(RESPONSE, "set-cookie", cookie); /* comes with whatever the application answers */
    }
    set_header_value(REQUEST, "x-variant", 9, &variant, 1);
    if (variant == 'b') {
        uint32_t size = get_uri(uri + 2, sizeof uri - 2);
        memcpy(uri, "/b", 2);
        if (size <= sizeof uri - 2)
            set_uri(uri, size + 2);
    }
    return NEXT;
}

EXPORT(handle_response) void handle_response(uint32_t context, uint32_t is_error) {
    (void)context, (void)is_error;
}
