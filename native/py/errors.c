/* errors.c: the core's errors and outcomes as the exceptions of lucet.errors. */

#include "binding.h"

#include <errno.h>
#include <string.h>

PyObject *raise_named(const char *name, const char *format, ...) {
    PyObject *type = PyObject_GetAttrString(binding.errors, name);
    if (!type)
        return NULL;
    va_list arguments;
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (message)
        PyErr_SetObject(type, message);
    Py_XDECREF(message);
    Py_DECREF(type);
    return NULL;
}

PyObject *raise_error(const lucet_error *error, PyObject *path) {
    static const char *const names[] = {
        [LUCET_ERROR_ARTIFACT] = "ArtifactError",
        [LUCET_ERROR_LINK] = "LinkError",
        [LUCET_ERROR_LIMITS] = "LimitsExceeded",
        [LUCET_ERROR_REGION_FULL] = "RegionFull",
        [LUCET_ERROR_STATE] = "InstanceError",
        [LUCET_ERROR_ARGUMENT] = "InstanceError",
        [LUCET_ERROR_MEMORY] = NULL,
        [LUCET_ERROR_SYSTEM] = NULL,
    };
    if (error->code == LUCET_ERROR_SYSTEM) {
        if (!path) {
            PyErr_Format(PyExc_OSError, "%s", error->message);
            return NULL;
        }
        errno = error->system_errno;
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    }
    if (error->code == LUCET_ERROR_MEMORY) {
        PyErr_SetString(PyExc_MemoryError, error->message);
        return NULL;
    }
    if (path)
        return raise_named(names[error->code], "%S: %s", path, error->message);
    return raise_named(names[error->code], "%s", error->message);
}

/* Names come from the module and may be anything. */
PyObject *string_object(lucet_string string) {
    if (!string.bytes)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(string.bytes, (Py_ssize_t)string.size, "replace");
}

PyObject *outcome_function(const lucet_outcome *outcome) {
    if (!outcome->module)
        Py_RETURN_NONE;
    lucet_string name = lucet_module_function_name(outcome->module, outcome->function);
    return name.bytes ? string_object(name) : PyUnicode_FromFormat("function %u", outcome->function);
}

PyObject *outcome_offset(const lucet_outcome *outcome) {
    return outcome->wasm_offset == LUCET_NO_OFFSET ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(outcome->wasm_offset);
}

/* A module's DWARF lines as bytes, None if it has none. */
static PyObject *sources_object(const lucet_module *module) {
    lucet_string sources = lucet_module_sources(module);
    return sources.bytes ? PyBytes_FromStringAndSize(sources.bytes, (Py_ssize_t)sources.size) : Py_NewRef(Py_None);
}

/* ((function's name, offset or None, lines of its module or None), ...), and None last if there were more. */
PyObject *frames_object(void) {
    PyObject *sources = NULL;
    uint32_t count;
    bool is_cut;
    const lucet_frame *frames = lucet_backtrace(&count, &is_cut);
    PyObject *list = PyTuple_New((Py_ssize_t)count + is_cut);
    for (uint32_t i = 0; list && i < count; i++) {
        lucet_outcome one = {.module = frames[i].module, .function = frames[i].function};
        one.wasm_offset = frames[i].wasm_offset;
        if (!i || frames[i].module != frames[i - 1].module) {
            Py_XDECREF(sources);
            sources = sources_object(frames[i].module);
        }
        PyObject *frame =
            sources ? Py_BuildValue("(NNO)", outcome_function(&one), outcome_offset(&one), sources) : NULL;
        if (!frame || PyTuple_SetItem(list, (Py_ssize_t)i, frame) < 0)
            Py_CLEAR(list);
    }
    Py_XDECREF(sources);
    if (list && is_cut && PyTuple_SetItem(list, (Py_ssize_t)count, Py_NewRef(Py_None)) < 0)
        Py_CLEAR(list);
    return list;
}

PyObject *trap_object(const lucet_outcome *outcome) {
    const char *name = lucet_trap_name(outcome->trap);
    PyObject *type = PyObject_GetAttrString(binding.errors, strcmp(name, "TIMED_OUT") == 0     ? "TimedOut"
                                                            : strcmp(name, "OUT_OF_FUEL") == 0 ? "OutOfFuel"
                                                                                               : "Trap");
    PyObject *function = outcome_function(outcome), *offset = outcome_offset(outcome), *frames = frames_object();
    PyObject *arguments = Py_BuildValue("(s)", lucet_trap_text(outcome->trap));
    PyObject *keywords = function && offset && frames
                             ? Py_BuildValue("{s:s,s:O,s:O,s:O}", "code", lucet_trap_name(outcome->trap), "function",
                                             function, "offset", offset, "frames", frames)
                             : NULL;
    PyObject *trap = type && arguments && keywords ? PyObject_Call(type, arguments, keywords) : NULL;
    Py_XDECREF(type);
    Py_XDECREF(function);
    Py_XDECREF(offset);
    Py_XDECREF(frames);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return trap;
}

PyObject *raise_trap(const lucet_outcome *outcome) {
    PyObject *trap = trap_object(outcome);
    if (trap)
        PyErr_SetObject((PyObject *)Py_TYPE(trap), trap);
    Py_XDECREF(trap);
    return NULL;
}
