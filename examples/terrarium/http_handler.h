/* http_handler.h: the functions that http-wasm gives a handler (https://http-wasm.io/http-handler-abi/).
 *
 * A handler exports handle_request, which returns NEXT (or NEXT_WITH(context)) to pass the request on, ANSWER to answer it
 * itself, and handle_response, which sees what came of a request that it has passed on:
 *
 *     EXPORT(handle_request) uint64_t handle_request(void) { return NEXT; }
 *     EXPORT(handle_response) void handle_response(uint32_t context, uint32_t is_error) {}
 *
 * Functions that read something write it to a buffer if it fits, and return its length in any case. */

#ifndef HTTP_HANDLER_H
#define HTTP_HANDLER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(#name)))
#define HTTP_HANDLER(name) __attribute__((import_module("http_handler"), import_name(#name)))

#define ANSWER ((uint64_t)0)
#define NEXT ((uint64_t)1)
#define NEXT_WITH(context) ((uint64_t)(context) << 32 | 1)

enum kind { REQUEST, RESPONSE };
enum feature { BUFFER_REQUEST = 1, BUFFER_RESPONSE = 2 };
enum level { LOG_DEBUG = -1, LOG_INFO, LOG_WARNING, LOG_ERROR };

HTTP_HANDLER(get_config) uint32_t get_config(char *buffer, uint32_t limit);
HTTP_HANDLER(enable_features) uint32_t enable_features(uint32_t features);
HTTP_HANDLER(log) void log_message(int32_t level, const char *message, uint32_t size);
HTTP_HANDLER(log_enabled) uint32_t log_enabled(int32_t level);

/* Both give texts that each end with a NUL: their number in the upper half of the result, their length in the lower. */
HTTP_HANDLER(get_header_names) uint64_t get_header_names(enum kind kind, char *buffer, uint32_t limit);
HTTP_HANDLER(get_header_values)
uint64_t get_header_values(enum kind kind, const char *name, uint32_t name_size, char *buffer, uint32_t limit);
HTTP_HANDLER(set_header_value)
void set_header_value(enum kind kind, const char *name, uint32_t name_size, const char *value, uint32_t value_size);
HTTP_HANDLER(add_header_value)
void add_header_value(enum kind kind, const char *name, uint32_t name_size, const char *value, uint32_t value_size);
HTTP_HANDLER(remove_header) void remove_header(enum kind kind, const char *name, uint32_t name_size);

/* Upper half of the result: 1 at the end of the body. */
HTTP_HANDLER(read_body) uint64_t read_body(enum kind kind, char *buffer, uint32_t limit);
HTTP_HANDLER(write_body) void write_body(enum kind kind, const char *body, uint32_t size);

HTTP_HANDLER(get_method) uint32_t get_method(char *buffer, uint32_t limit);
HTTP_HANDLER(set_method) void set_method(const char *method, uint32_t size);
HTTP_HANDLER(get_uri) uint32_t get_uri(char *buffer, uint32_t limit);
HTTP_HANDLER(set_uri) void set_uri(const char *uri, uint32_t size);
HTTP_HANDLER(get_protocol_version) uint32_t get_protocol_version(char *buffer, uint32_t limit);
HTTP_HANDLER(get_source_addr) uint32_t get_source_addr(char *buffer, uint32_t limit);
HTTP_HANDLER(get_status_code) uint32_t get_status_code(void);
HTTP_HANDLER(set_status_code) void set_status_code(uint32_t status);

/* The first value of a header, with a NUL behind it; false if there is none, or if it is longer. */
static inline int header(enum kind kind, const char *name, char *buffer, uint32_t limit) {
    uint64_t result = get_header_values(kind, name, (uint32_t)strlen(name), buffer, limit);
    return result >> 32 && (uint32_t)result <= limit;
}

static inline void set_header(enum kind kind, const char *name, const char *value) {
    set_header_value(kind, name, (uint32_t)strlen(name), value, (uint32_t)strlen(value));
}

static inline uint64_t answer(uint32_t status, const char *body) {
    set_status_code(status);
    write_body(RESPONSE, body, (uint32_t)strlen(body));
    return ANSWER;
}

#endif
