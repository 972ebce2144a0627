/* An interpreter's dispatch: byte code for a stack machine in a loop around a switch. */
#include "kernel.h"
enum { PUSH, LOAD, STORE, ADD, SUB, MUL, AND, SHR, LESS, JUMP, JUMP_IF, HALT };
/* s = 0; i = 0; while (i < n) { s = (s * 31 + (i & 255)) - (s >> 3); i = i + 1; } */
static const i32 program[] = {
    PUSH,    0,   STORE, 0, PUSH,           0, STORE, 1,   /* 8: */ LOAD, 1,    LOAD, 2,    LESS,
    JUMP_IF, 17,  HALT,  0, /* 17: */ LOAD, 0, PUSH,  31,  MUL,           LOAD, 1,    PUSH, 255,
    AND,     ADD, LOAD,  0, PUSH,           3, SHR,   SUB, STORE,         0,    LOAD, 1,    PUSH,
    1,       ADD, STORE, 1, JUMP,           8,
};

static NOINLINE u32 interpret(const i32 *code, u32 n) {
    u32 stack[16], variables[4] = {0, 0, n, 0}, *top = stack;
    const i32 *at = code;
    for (;;)
        switch (*at++) {
        case PUSH:
            *top++ = (u32)*at++;
            break;
        case LOAD:
            *top++ = variables[*at++];
            break;
        case STORE:
            variables[*at++] = *--top;
            break;
        case ADD:
            top--;
            top[-1] += *top;
            break;
        case SUB:
            top--;
            top[-1] -= *top;
            break;
        case MUL:
            top--;
            top[-1] *= *top;
            break;
        case AND:
            top--;
            top[-1] &= *top;
            break;
        case SHR:
            top--;
            top[-1] >>= *top & 31;
            break;
        case LESS:
            top--;
            top[-1] = top[-1] < *top;
            break;
        case JUMP:
            at = code + *at;
            break;
        case JUMP_IF:
            top--;
            at = *top ? code + *at : at + 1;
            break;
        default:
            return variables[0];
        }
}

u64 run(void) {
    return interpret(program, 2500000);
}
