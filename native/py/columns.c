/* columns.c: Func._map: one run of guest code that calls a function for each element of arrays.
 *
 * Elements go through a block of slots: a block's arguments are converted, the guest is called for each row, its results are stored.
 * All of that is one run, mostly without the GIL; the arrays are pinned by their buffers, and nothing here runs Python code meanwhile. */

#include "binding.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_SLOTS = 4096, LETS_GO = 256 /* elements: for fewer the GIL is kept */, MAX_DIMENSIONS = 64 };

/* What an element is; of SIGNED and UNSIGNED there are 1, 2, 4 and 8 bytes. */
enum element { NO_ELEMENT, SIGNED, UNSIGNED, FLOAT };

typedef struct {
    Py_buffer view;
    bool is_array; /* else a scalar: the slot */
    uint8_t valtype;
    enum element element;
    uint64_t slot;
    char *at;
    Py_ssize_t index[MAX_DIMENSIONS];
} Column;

typedef struct {
    const lucet_functype *type;
    Column *columns; /* of parameters, then of results */
    uint64_t count, done;
    uint64_t *block;
    uint64_t width, rows, filled; /* slots of a row; rows in the block, and how many of them are in use */
} Map;

/* ---- checking ---- */

static const char *ordinal_of(const Map *map, uint32_t i) {
    return i < map->type->params_count ? "argument" : "out";
}

static uint32_t number_of(const Map *map, uint32_t i) {
    return i < map->type->params_count ? i : i - map->type->params_count;
}

/* Formats of the struct module for one number, in the machine's order. */
static enum element element_of(const Py_buffer *view) {
    const char *format = view->format ? view->format : "B";
    bool swapped = *format == '>' || *format == '!';
    if (*format && strchr("@=<>!", *format))
        format++;
    if (!*format || format[1] || (swapped && view->itemsize > 1))
        return NO_ELEMENT;
    bool is_width = view->itemsize == 1 || view->itemsize == 2 || view->itemsize == 4 || view->itemsize == 8;
    if (is_width && strchr("bhilqn", *format))
        return SIGNED;
    if (is_width && strchr("BHILQN?", *format))
        return UNSIGNED;
    if ((*format == 'f' && view->itemsize == 4) || (*format == 'd' && view->itemsize == 8))
        return FLOAT;
    return NO_ELEMENT;
}

/* Whether every value of the array is one of the type. Results must be as wide as they are. */
static bool fits(const Column *column, bool is_result) {
    Py_ssize_t size = column->view.itemsize;
    bool is_int = column->element == SIGNED || column->element == UNSIGNED;
    switch (column->valtype) {
    case VALTYPE_I32:
        return is_int && (is_result ? size == 4 : size <= 4);
    case VALTYPE_I64:
        return is_int && (is_result ? size == 8 : size <= 8);
    case VALTYPE_F32:
        return column->element == FLOAT && size == 4;
    default:
        return column->element == FLOAT && (!is_result || size == 8);
    }
}

static bool open_array(const Map *map, uint32_t i, PyObject *object) {
    Column *column = &map->columns[i];
    bool is_result = i >= map->type->params_count;
    /* Not all exporters fill in what is asked for (ctypes has no strides); a memoryview has everything. */
    PyObject *memoryview = PyMemoryView_FromObject(object);
    int got =
        memoryview ? PyObject_GetBuffer(memoryview, &column->view, is_result ? PyBUF_RECORDS : PyBUF_RECORDS_RO) : -1;
    Py_XDECREF(memoryview);
    if (got < 0)
        return false;
    column->is_array = true;
    column->at = column->view.buf;
    column->element = element_of(&column->view);
    if (!fits(column, is_result)) {
        PyErr_Format(PyExc_TypeError, "%s %u is an array of format %s, and the function's %s is an %s",
                     ordinal_of(map, i), number_of(map, i), column->view.format ? column->view.format : "B",
                     is_result ? "result" : "parameter", VALTYPE_NAME(column->valtype, 0));
        return false;
    }
    if (column->view.ndim < 1 || column->view.ndim > MAX_DIMENSIONS) {
        PyErr_Format(PyExc_TypeError, "%s %u is an array of %d dimensions", ordinal_of(map, i), number_of(map, i),
                     column->view.ndim);
        return false;
    }
    return true;
}

/* The number of elements, which all arrays have in common. */
static bool agree(Map *map, uint32_t columns_count) {
    const Column *first = NULL;
    for (uint32_t i = 0; i < columns_count; i++) {
        const Column *column = &map->columns[i];
        if (!column->is_array)
            continue;
        if (first && (first->view.ndim != column->view.ndim ||
                      memcmp(first->view.shape, column->view.shape, (size_t)first->view.ndim * sizeof(Py_ssize_t)))) {
            PyErr_Format(PyExc_ValueError, "%s %u has another shape than the first array", ordinal_of(map, i),
                         number_of(map, i));
            return false;
        }
        first = first ? first : column;
    }
    if (!first) {
        PyErr_SetString(PyExc_TypeError, "at least one argument must be an array");
        return false;
    }
    map->count = 1;
    bool overflows = false;
    for (int d = 0; d < first->view.ndim; d++)
        overflows |= __builtin_mul_overflow(map->count, (uint64_t)first->view.shape[d], &map->count);
    for (int d = 0; d < first->view.ndim; d++)
        if (!first->view.shape[d])
            map->count = overflows = 0;
    if (overflows)
        PyErr_SetString(PyExc_OverflowError, "too many elements");
    return !overflows;
}

/* ---- converting: without the GIL ---- */

/* Of a type of numbers: from `from`, in steps of `step` bytes, into every width-th slot. */
#define LOAD(name, ctype, wide)                                                                                        \
    static void load_##name(uint64_t *slot, uint64_t width, const char *from, Py_ssize_t step, uint64_t n,             \
                            uint64_t mask) {                                                                           \
        for (uint64_t i = 0; i < n; i++, from += step, slot += width) {                                                \
            ctype value;                                                                                               \
            memcpy(&value, from, sizeof value);                                                                        \
            *slot = (uint64_t)(wide)value & mask;                                                                      \
        }                                                                                                              \
    }
LOAD(i8, int8_t, int64_t)
LOAD(i16, int16_t, int64_t)
LOAD(i32, int32_t, int64_t)
LOAD(u8, uint8_t, uint64_t)
LOAD(u16, uint16_t, uint64_t)
LOAD(u32, uint32_t, uint64_t)
LOAD(u64, uint64_t, uint64_t)

static void load_f32_as_f64(uint64_t *slot, uint64_t width, const char *from, Py_ssize_t step, uint64_t n,
                            uint64_t mask) {
    (void)mask;
    for (uint64_t i = 0; i < n; i++, from += step, slot += width) {
        float value;
        memcpy(&value, from, sizeof value);
        double wide = (double)value;
        memcpy(slot, &wide, sizeof wide);
    }
}

static void load(const Column *column, uint64_t *slot, uint64_t width, Py_ssize_t step, uint64_t n) {
    Py_ssize_t size = column->view.itemsize;
    uint64_t mask = column->valtype == VALTYPE_I32 ? UINT32_MAX : UINT64_MAX;
    void (*of[])(uint64_t *, uint64_t, const char *, Py_ssize_t, uint64_t,
                 uint64_t) = {load_i8, load_i16, load_i32, load_u64, load_u8, load_u16, load_u32, load_u64};
    int log2 = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
    if (column->element == FLOAT && size == 4 && column->valtype == VALTYPE_F64)
        load_f32_as_f64(slot, width, column->at, step, n, mask);
    else
        of[column->element == SIGNED ? log2 : 4 + log2](slot, width, column->at, step, n, mask);
}

static void store(const Column *column, const uint64_t *slot, uint64_t width, Py_ssize_t step, uint64_t n) {
    char *to = column->at;
    if (column->view.itemsize == 8)
        for (uint64_t i = 0; i < n; i++, to += step, slot += width)
            memcpy(to, slot, 8);
    else
        for (uint64_t i = 0; i < n; i++, to += step, slot += width)
            memcpy(to, slot, 4);
}

/* On by n elements of the last dimension, none of which is beyond its end. */
static void advance(Column *column, uint64_t n) {
    const Py_ssize_t *shape = column->view.shape, *strides = column->view.strides;
    int d = column->view.ndim - 1;
    column->at += (Py_ssize_t)n * strides[d];
    column->index[d] += (Py_ssize_t)n;
    for (; d > 0 && column->index[d] == shape[d]; d--) {
        column->at += strides[d - 1] - shape[d] * strides[d];
        column->index[d] = 0;
        column->index[d - 1]++;
    }
}

/* The next n elements, from or to the rows whose slots begin at `slot`. */
static void walk(Column *column, uint64_t *slot, uint64_t width, uint64_t n, bool is_result) {
    int last = column->view.ndim - 1;
    Py_ssize_t step = column->view.strides[last];
    while (n) {
        uint64_t left = (uint64_t)(column->view.shape[last] - column->index[last]), now = left < n ? left : n;
        if (is_result)
            store(column, slot, width, step, now);
        else
            load(column, slot, width, step, now);
        advance(column, now);
        slot += now * width;
        n -= now;
    }
}

static void store_results(Map *map, uint64_t rows) {
    Column *results = map->columns + map->type->params_count;
    for (uint32_t i = 0; rows && i < map->type->results_count; i++)
        walk(&results[i], map->block + i, map->width, rows, true);
    map->done += rows;
}

static void load_arguments(Map *map) {
    for (uint32_t i = 0; i < map->type->params_count; i++) {
        Column *column = &map->columns[i];
        if (column->is_array)
            walk(column, map->block + i, map->width, map->filled, false);
        else
            for (uint64_t row = 0; row < map->filled; row++)
                map->block[row * map->width + i] = column->slot;
    }
}

static bool next_block(lucet_rows *rows) {
    Map *map = rows->data;
    store_results(map, map->filled);
    map->filled = map->count - map->done < map->rows ? map->count - map->done : map->rows;
    load_arguments(map);
    rows->slots = map->block;
    rows->end = map->block + map->filled * map->width;
    return map->filled > 0;
}

/* ---- the run ---- */

/* Which element it was; the exception stays set. */
static void say_where(uint64_t element) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value && traceback)
        PyException_SetTraceback(value, traceback);
    PyObject *number = PyLong_FromUnsignedLongLong(element);
    PyObject *text = number ? PyUnicode_FromFormat("in element %S of Func.map", number) : NULL;
    PyObject *none = text && value ? PyObject_CallMethod(value, "add_note", "O", text) : NULL;
    PyObject *ours = PyObject_GetAttrString(binding.errors, "LucetError");
    if (value && number && ours && PyObject_IsInstance(value, ours) == 1)
        PyObject_SetAttrString(value, "element", number);
    PyErr_Clear(); /* what could not be said does not matter beside what happened */
    Py_XDECREF(none);
    Py_XDECREF(ours);
    Py_XDECREF(text);
    Py_XDECREF(number);
    PyErr_Restore(type, value, traceback);
}

static void end_suspended(InstanceObject *instance, const lucet_outcome *outcome) {
    lucet_outcome ended;
    InstanceObject *host_instance = lucet_instance_context(outcome->suspended_instance);
    PyObject *value = host_instance ? host_instance->suspend_value : NULL;
    if (host_instance)
        host_instance->suspend_value = NULL;
    lucet_resume(instance->instance, true, &ended, NULL);
    raise_named("InstanceError", "a host function suspended the guest, which Func.map cannot wait for");
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    Py_XDECREF(value); /* may run anything */
    PyErr_Restore(type, error, traceback);
}

/* The caller has a reference to the instance, which is open. */
static bool run_map(InstanceObject *instance, const ItemObject *func, Map *map) {
    lucet_rows rows = {map->block, map->block, map->width * sizeof *map->block, next_block, map};
    lucet_outcome outcome;
    lucet_error error;
    GilFrame frame = run_begin(instance);
    if (map->count >= LETS_GO)
        gil_let_go();
    lucet_outcome_kind kind = func->ref ? lucet_call_ref_many(instance->instance, func->ref, &rows, &outcome, &error)
                                        : lucet_call_many(instance->instance, func->index, &rows, &outcome, &error);
    while (kind == LUCET_PREEMPTED)
        kind = lucet_resume(instance->instance, false, &outcome, &error);
    if (kind != LUCET_RETURNED)
        store_results(map, (uint64_t)(rows.slots - map->block) / map->width);
    run_end(instance, frame);
    if (kind == LUCET_RETURNED)
        return true;
    if (kind == LUCET_SUSPENDED) {
        end_suspended(instance, &outcome);
    } else {
        PyObject *none = finish_call(instance, kind, &outcome, &error);
        Py_XDECREF(none);
    }
    if (kind != LUCET_FAILED)
        say_where(map->done);
    return false;
}

/* ---- arguments ---- */

static bool open_columns(const Map *map, PyObject *arguments, PyObject *outs, InstanceObject *instance) {
    uint32_t params = map->type->params_count, results = map->type->results_count;
    for (uint32_t i = 0; i < params + results; i++) {
        Column *column = &map->columns[i];
        PyObject *object =
            i < params ? PyTuple_GetItem(arguments, (Py_ssize_t)i) : PyTuple_GetItem(outs, (Py_ssize_t)(i - params));
        column->valtype = map->type->valtypes[i];
        if (i >= params || PyObject_CheckBuffer(object)) {
            if (!open_array(map, i, object))
                return false;
        } else if (!slot_from_object(&column->slot, column->valtype, 0, object, instance)) {
            return false;
        }
    }
    return true;
}

static bool check_type(const lucet_functype *type) {
    for (uint32_t i = 0; i < type->params_count + type->results_count; i++)
        if (is_reference(type->valtypes[i]) || type->valtypes[i] == VALTYPE_V128) {
            PyErr_Format(PyExc_TypeError, "Func.map is for functions of numbers, not of %s",
                         VALTYPE_NAME(type->valtypes[i], type_id_at(type, i)));
            return false;
        }
    return true;
}

static bool map_columns(const ItemObject *self, Map *map, PyObject *arguments, PyObject *outs) {
    uint32_t columns_count = map->type->params_count + map->type->results_count;
    if (!open_columns(map, arguments, outs, self->instance) || !agree(map, columns_count))
        return false;
    map->width = map->type->slots_count ? map->type->slots_count : 1;
    map->rows = map->width < BLOCK_SLOTS ? BLOCK_SLOTS / map->width : 1;
    map->rows = map->count && map->count < map->rows ? map->count : map->rows;
    map->block = malloc(map->rows * map->width * sizeof *map->block);
    if (!map->block) {
        PyErr_NoMemory();
        return false;
    }
    /* Converting, and asking for buffers, may have run Python code, which may have closed the instance. */
    return instance_open(self->instance) && run_map(self->instance, self, map);
}

/* _map(arguments, outs): of arguments those that are buffers are arrays; outs: writable ones, as many as there are results. */
PyObject *func_map_columns(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    const ItemObject *self = (const ItemObject *)object;
    if (!arguments_are(count, 2, "_map(arguments, outs)"))
        return NULL;
    PyObject *arguments = args[0], *outs = args[1];
    Map map = {.type = func_type(self)};
    if (!map.type || !check_type(map.type))
        return NULL;
    if (!PyTuple_Check(arguments) || !PyTuple_Check(outs)) {
        PyErr_SetString(PyExc_TypeError, "_map takes two tuples");
        return NULL;
    }
    if (PyTuple_Size(arguments) != (Py_ssize_t)map.type->params_count)
        return PyErr_Format(PyExc_TypeError, "the function takes %u arguments, %zd were given", map.type->params_count,
                            PyTuple_Size(arguments));
    if (PyTuple_Size(outs) != (Py_ssize_t)map.type->results_count)
        return PyErr_Format(PyExc_TypeError, "the function has %u results, %zd arrays were given for them",
                            map.type->results_count, PyTuple_Size(outs));
    uint32_t columns_count = map.type->params_count + map.type->results_count;
    InstanceObject *instance = (InstanceObject *)Py_NewRef((PyObject *)self->instance);
    map.columns = calloc(columns_count + 1, sizeof *map.columns);
    bool ok = map.columns && map_columns(self, &map, arguments, outs);
    if (!map.columns)
        PyErr_NoMemory();
    free(map.block);
    /* Releasing a buffer may run Python code, too: not while an exception is set. */
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (uint32_t i = 0; map.columns && i < columns_count; i++)
        if (map.columns[i].view.obj)
            PyBuffer_Release(&map.columns[i].view);
    PyErr_Restore(type, value, traceback);
    free(map.columns);
    Py_DECREF((PyObject *)instance);
    return ok ? Py_NewRef(Py_None) : NULL;
}
