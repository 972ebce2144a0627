/* core.c: the extension module lucet.runtime._core. */

#include "binding.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

BindingState binding;

/* openat2(dirfd, path, flags, mode, resolve) -> fd: what the standard library lacks for confined path resolution. */
static PyObject *openat2_(PyObject *self, PyObject *args) {
    (void)self;
    int directory;
    PyObject *path;
    struct open_how how;
    memset(&how, 0, sizeof how);
    unsigned long long flags, mode, resolve;
    if (!PyArg_ParseTuple(args, "iO&KKK:openat2", &directory, PyUnicode_FSConverter, &path, &flags, &mode, &resolve))
        return NULL;
    how.flags = flags;
    how.mode = mode;
    how.resolve = resolve;
    long descriptor;
    do {
        Py_BEGIN_ALLOW_THREADS
        descriptor = syscall(SYS_openat2, directory, PyBytes_AsString(path), &how, sizeof how);
        Py_END_ALLOW_THREADS
    } while (descriptor < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (descriptor < 0 && !PyErr_Occurred())
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    Py_DECREF(path);
    return descriptor < 0 ? NULL : PyLong_FromLong(descriptor);
}

static PyObject *set_classes(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *host_function, *suspend, *exports, *globals, *functype, *globaltype;
    if (!PyArg_ParseTuple(args, "OOOOOO", &host_function, &suspend, &exports, &globals, &functype, &globaltype))
        return NULL;
    /* Once, for the life of the process. */
    binding.host_function = Py_NewRef(host_function);
    binding.suspend = Py_NewRef(suspend);
    binding.exports = Py_NewRef(exports);
    binding.globals = Py_NewRef(globals);
    binding.functype = Py_NewRef(functype);
    binding.globaltype = Py_NewRef(globaltype);
    Py_RETURN_NONE;
}

/* Ctrl-C ends a guest's loop, as long as Python handles SIGINT itself; whoever sets it to SIG_DFL wants the process to end. */
static PyObject *interrupt_on(PyObject *self, PyObject *number) {
    (void)self;
    lucet_error error;
    long signal = PyLong_AsLong(number);
    if (signal == -1 && PyErr_Occurred())
        return NULL;
    return lucet_interrupt_on((int)signal, &error) ? Py_NewRef(Py_None) : raise_error(&error, NULL);
}

static PyMethodDef functions[] = {
    {"_interrupt_on", interrupt_on, METH_O, NULL},
    {"openat2", openat2_, METH_VARARGS, "openat2(dirfd, path, flags, mode, resolve) -> int"},
    {"_set_classes", set_classes, METH_VARARGS, NULL},
    {"wait", wasi_wait, METH_VARARGS,
     "wait(descriptors, nanoseconds) -> list\n\n"
     "poll(2) of [(fd, events)] that an interrupt or a timeout of the run that called the host function under way "
     "ends, with InterruptedError."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "lucet.runtime._core",
    .m_doc = "The binding of the runtime core. Use lucet.runtime.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__core(void) {
    static const struct {
        PyType_Spec *spec;
        PyTypeObject **type;
    } types[] = {
        {&module_spec, &binding.module},
        {&linkage_spec, &binding.linkage},
        {&region_spec, &binding.region},
        {&instance_spec, &binding.instance},
        {&func_spec, &binding.func},
        {&memory_spec, &binding.memory},
        {&shared_memory_spec, &binding.shared_memory},
        {&table_spec, &binding.table},
        {&global_spec, &binding.global},
        {&view_spec, &binding.view},
        {&suspended_spec, &binding.suspended},
        {&budget_spec, &binding.budget},
        {&tag_spec, &binding.tag},
        {&wasi_spec, &binding.wasi},
        {&wasi_file_spec, &binding.wasi_file},
        {&wasi_function_spec, &binding.wasi_function},
    };
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    void *found = dlsym(RTLD_DEFAULT, "PyObject_Vectorcall");
    memcpy(&binding.call_vector, &found, sizeof found); /* C has no cast from an object pointer to a function pointer */
    if (!found) {
        PyErr_SetString(PyExc_ImportError, "this Python has no PyObject_Vectorcall");
        Py_DECREF(module);
        return NULL;
    }
    gil_initialise();
    wasi_initialise();
    binding.errors = PyImport_ImportModule("lucet.errors");
    bool ok = binding.errors != NULL;
    for (size_t i = 0; ok && i < sizeof types / sizeof *types; i++) {
        PyObject *type = PyType_FromSpec(types[i].spec);
        *types[i].type = (PyTypeObject *)type;
        ok = type && PyModule_AddType(module, (PyTypeObject *)type) == 0;
    }
    ok = ok && PyModule_AddIntConstant(module, "WASI_OTHER", LUCET_WASI_OTHER) == 0 &&
         PyModule_AddIntConstant(module, "WASI_FILE", LUCET_WASI_FILE) == 0 &&
         PyModule_AddIntConstant(module, "WASI_STREAM", LUCET_WASI_STREAM) == 0 &&
         PyModule_AddIntConstant(module, "WASI_DIRECTORY", LUCET_WASI_DIRECTORY) == 0 &&
         PyModule_AddIntConstant(module, "WASI_DISCARD", LUCET_WASI_DISCARD) == 0;
    if (!ok)
        Py_CLEAR(module);
    return module;
}
