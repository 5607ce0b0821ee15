/* Copies a box of elements from one strided place to another: what a transpose is where no value is interpreted.
 *
 * Where the source runs along another axis than the target, the plane of these two axes is cut into tiles. The rows of
 * a tile are gathered into a scratch whose rows are padded by a cache line, and turned from there into the target: the
 * lines of a column whose distance is a power of two would land in the same sets of the cache, and each would be
 * fetched anew for every element.
 *
 * Elements of 2, 4 and 8 bytes are turned in blocks of 16 bytes by 16 bytes' worth of rows, by the compiler's vectors
 * (SSE2 on x86-64, NEON on AArch64); other widths one by one.
 */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define AXES 32                /* at most: as many as numpy 1 and the formats' readers allow */
#define RUN 1024               /* bytes of a tile's row */
#define ROWS 256               /* rows of a tile */
#define PITCH (RUN + 64)       /* bytes from one row of the scratch to the next */
#define SCRATCH (ROWS * PITCH) /* bytes of the scratch */

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define VECTORS 1
#endif
#endif

typedef struct {
    Py_ssize_t count, to, from; /* elements, and bytes from one to the next on both sides */
} Axis;

/* One element. */
static inline void put(char *to, const char *from, Py_ssize_t width) {
    switch (width) {
    case 1: *to = *from; break;
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    default: memcpy(to, from, 16); break;
    }
}

/* Every element of a rectangle whose rows lie `from_row` apart, its columns written `to_column` apart. */
static inline void one_by_one(char *to, Py_ssize_t to_column, const char *from, Py_ssize_t from_row,
                              Py_ssize_t columns, Py_ssize_t rows, Py_ssize_t width) {
    for (Py_ssize_t i = 0; i < columns; i++)
        for (Py_ssize_t j = 0; j < rows; j++)
            put(to + i * to_column + j * width, from + j * from_row + i * width, width);
}

#ifdef VECTORS
typedef uint64_t Pair __attribute__((vector_size(16)));
typedef uint32_t Four __attribute__((vector_size(16)));
typedef uint16_t Eight __attribute__((vector_size(16)));

#define LOAD(type, name, n) type name; memcpy(&name, from + (n) * from_row, 16)
#define STORE(n, value) do { __typeof__(value) v = (value); memcpy(to + (n) * to_column, &v, 16); } while (0)
#define LOW4(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH4(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define LOW8(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH8(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

static inline void turn_2x2(char *to, Py_ssize_t to_column, const char *from, Py_ssize_t from_row) {
    LOAD(Pair, a, 0);
    LOAD(Pair, b, 1);
    STORE(0, __builtin_shufflevector(a, b, 0, 2));
    STORE(1, __builtin_shufflevector(a, b, 1, 3));
}

/* Rows 0 and 2 are interleaved, and 1 and 3, and then what came of both. */
static inline void turn_4x4(char *to, Py_ssize_t to_column, const char *from, Py_ssize_t from_row) {
    LOAD(Four, a, 0);
    LOAD(Four, b, 1);
    LOAD(Four, c, 2);
    LOAD(Four, d, 3);
    Four even_low = LOW4(a, c), even_high = HIGH4(a, c), odd_low = LOW4(b, d), odd_high = HIGH4(b, d);
    STORE(0, LOW4(even_low, odd_low));
    STORE(1, HIGH4(even_low, odd_low));
    STORE(2, LOW4(even_high, odd_high));
    STORE(3, HIGH4(even_high, odd_high));
}

/* The same, once more. */
static inline void turn_8x8(char *to, Py_ssize_t to_column, const char *from, Py_ssize_t from_row) {
    LOAD(Eight, a, 0);
    LOAD(Eight, b, 1);
    LOAD(Eight, c, 2);
    LOAD(Eight, d, 3);
    LOAD(Eight, e, 4);
    LOAD(Eight, f, 5);
    LOAD(Eight, g, 6);
    LOAD(Eight, h, 7);
    Eight ae_low = LOW8(a, e), ae_high = HIGH8(a, e), cg_low = LOW8(c, g), cg_high = HIGH8(c, g);
    Eight bf_low = LOW8(b, f), bf_high = HIGH8(b, f), dh_low = LOW8(d, h), dh_high = HIGH8(d, h);
    Eight even0 = LOW8(ae_low, cg_low), even1 = HIGH8(ae_low, cg_low);
    Eight even2 = LOW8(ae_high, cg_high), even3 = HIGH8(ae_high, cg_high);
    Eight odd0 = LOW8(bf_low, dh_low), odd1 = HIGH8(bf_low, dh_low);
    Eight odd2 = LOW8(bf_high, dh_high), odd3 = HIGH8(bf_high, dh_high);
    STORE(0, LOW8(even0, odd0));
    STORE(1, HIGH8(even0, odd0));
    STORE(2, LOW8(even1, odd1));
    STORE(3, HIGH8(even1, odd1));
    STORE(4, LOW8(even2, odd2));
    STORE(5, HIGH8(even2, odd2));
    STORE(6, LOW8(even3, odd3));
    STORE(7, HIGH8(even3, odd3));
}

#define IN_BLOCKS(side, width, turn)                                                                                   \
    for (; i + (side) <= columns; i += (side)) {                                                                       \
        Py_ssize_t j = 0;                                                                                              \
        for (; j + (side) <= rows; j += (side))                                                                        \
            turn(to + i * to_column + j * (width), to_column, scratch + j * PITCH + i * (width), PITCH);               \
        one_by_one(to + i * to_column + j * (width), to_column, scratch + j * PITCH + i * (width), PITCH, (side),      \
                   rows - j, (width));                                                                                 \
    }
#endif

/* A tile: `rows` rows of `columns` elements become columns. */
static void turn_tile(char *to, Py_ssize_t to_column, const char *from, Py_ssize_t from_row, Py_ssize_t columns,
                      Py_ssize_t rows, Py_ssize_t width, char *scratch) {
    for (Py_ssize_t j = 0; j < rows; j++)
        memcpy(scratch + j * PITCH, from + j * from_row, (size_t)(columns * width));
    Py_ssize_t i = 0;
#ifdef VECTORS
    if (width == 2) {
        IN_BLOCKS(8, 2, turn_8x8)
    } else if (width == 4) {
        IN_BLOCKS(4, 4, turn_4x4)
    } else if (width == 8) {
        IN_BLOCKS(2, 8, turn_2x2)
    }
#endif
    one_by_one(to + i * to_column, to_column, scratch + i * width, PITCH, columns - i, rows, width);
}

/* A plane: the source runs along `fast`, the target along `last`. */
static void turn_plane(char *to, const char *from, const Axis *fast, const Axis *last, Py_ssize_t width, char *scratch) {
    Py_ssize_t columns = RUN / width;
    for (Py_ssize_t i = 0; i < fast->count; i += columns)
        for (Py_ssize_t j = 0; j < last->count; j += ROWS)
            turn_tile(to + i * fast->to + j * width, fast->to, from + i * width + j * last->from, last->from,
                      fast->count - i < columns ? fast->count - i : columns,
                      last->count - j < ROWS ? last->count - j : ROWS, width, scratch);
}

/* All elements of the box; `axes` by falling stride of the target, none of one element. */
static void copy_box(char *to, const char *from, Axis *axes, int count, Py_ssize_t width, char *scratch) {
    static const Axis one = {1, 0, 0};
    Axis last = one, fast = one;
    if (count)
        last = axes[--count];
    if (count && !(last.from == width && last.to == width)) { /* take the source's fastest axis out, too */
        int found = 0;
        for (int k = 1; k < count; k++)
            if (axes[k].from < axes[found].from)
                found = k;
        fast = axes[found];
        count--;
        for (int k = found; k < count; k++)
            axes[k] = axes[k + 1];
    }
    Py_ssize_t at[AXES] = {0};
    for (;;) {
        if (fast.count == 1 && last.from == width && last.to == width)
            memcpy(to, from, (size_t)(last.count * width));
        else if (fast.from == width && last.to == width)
            turn_plane(to, from, &fast, &last, width, scratch);
        else
            for (Py_ssize_t i = 0; i < fast.count; i++)
                for (Py_ssize_t j = 0; j < last.count; j++)
                    put(to + i * fast.to + j * last.to, from + i * fast.from + j * last.from, width);
        int k = count - 1;
        for (; k >= 0; k--) {
            to += axes[k].to;
            from += axes[k].from;
            if (++at[k] < axes[k].count)
                break;
            to -= axes[k].count * axes[k].to;
            from -= axes[k].count * axes[k].from;
            at[k] = 0;
        }
        if (k < 0)
            return;
    }
}

/* Whether every element lies within `size` bytes, and, in a target, each in a place of its own along every axis. */
static int within(Py_ssize_t size, Py_ssize_t offset, const Axis *axes, int count, Py_ssize_t width, int source) {
    Py_ssize_t end = offset;
    if (offset < 0)
        return 0;
    for (int k = 0; k < count; k++) {
        Py_ssize_t stride = source ? axes[k].from : axes[k].to, way;
        if (stride < 0 || (!source && !stride && axes[k].count > 1) || __builtin_mul_overflow(axes[k].count - 1, stride, &way) ||
            __builtin_add_overflow(end, way, &end))
            return 0;
    }
    return !__builtin_add_overflow(end, width, &end) && end <= size;
}

/* Drops axes of one element, sorts the others by falling stride of the target, and joins those that are one run. */
static int in_order(Axis *axes, int count) {
    int kept = 0;
    for (int k = 0; k < count; k++) {
        Axis axis = axes[k];
        if (axis.count == 1)
            continue;
        int place = kept++;
        for (; place && axes[place - 1].to < axis.to; place--)
            axes[place] = axes[place - 1];
        axes[place] = axis;
    }
    int joined = 0;
    for (int k = 1; k < kept; k++) {
        Axis *outer = &axes[joined], inner = axes[k];
        if (outer->to == inner.count * inner.to && outer->from == inner.count * inner.from)
            *outer = (Axis){outer->count * inner.count, inner.to, inner.from};
        else
            axes[++joined] = inner;
    }
    return kept ? joined + 1 : 0;
}

static int numbers(PyObject *tuple, Py_ssize_t *into, Py_ssize_t count) {
    if (PyTuple_Size(tuple) != count) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "wanted as many strides on both sides as the shape has axes");
        return 0;
    }
    for (Py_ssize_t k = 0; k < count; k++)
        if ((into[k] = PyLong_AsSsize_t(PyTuple_GetItem(tuple, k))) == -1 && PyErr_Occurred())
            return 0;
    return 1;
}

/* copy(target, offset, strides, source, offset, strides, shape, width, scratch) */
static PyObject *copy(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer target, source, scratch;
    PyObject *to, *from, *shape;
    Py_ssize_t to_offset, from_offset, width, values[3][AXES];
    Axis axes[AXES];
    int done = 0;
    if (!PyArg_ParseTuple(args, "w*nO!y*nO!O!nw*", &target, &to_offset, &PyTuple_Type, &to, &source, &from_offset,
                          &PyTuple_Type, &from, &PyTuple_Type, &shape, &width, &scratch))
        return NULL;
    Py_ssize_t rank = PyTuple_Size(shape);
    int empty = 0, whole = 1;
    if (rank > AXES)
        PyErr_Format(PyExc_ValueError, "wanted at most %d axes, got %zd", AXES, rank);
    else if (width != 1 && width != 2 && width != 4 && width != 8 && width != 16)
        PyErr_Format(PyExc_ValueError, "wanted elements of 1, 2, 4, 8 or 16 bytes, got %zd", width);
    else if (scratch.len < SCRATCH)
        PyErr_Format(PyExc_ValueError, "wanted a scratch of %d bytes, got %zd", SCRATCH, scratch.len);
    else if (numbers(shape, values[0], rank) && numbers(to, values[1], rank) && numbers(from, values[2], rank)) {
        for (Py_ssize_t k = 0; k < rank; k++) {
            axes[k] = (Axis){values[0][k], values[1][k], values[2][k]};
            empty |= values[0][k] == 0;
            whole &= values[0][k] >= 0;
        }
        if (!whole)
            PyErr_SetString(PyExc_ValueError, "wanted a shape without negative sizes");
        else if (empty)
            done = 1;
        else if (!within(target.len, to_offset, axes, (int)rank, width, 0))
            PyErr_SetString(PyExc_ValueError, "the box does not lie within the target");
        else if (!within(source.len, from_offset, axes, (int)rank, width, 1))
            PyErr_SetString(PyExc_ValueError, "the box does not lie within the source");
        else {
            Py_BEGIN_ALLOW_THREADS
            copy_box((char *)target.buf + to_offset, (const char *)source.buf + from_offset, axes,
                     in_order(axes, (int)rank), width, (char *)scratch.buf);
            Py_END_ALLOW_THREADS
            done = 1;
        }
    }
    PyBuffer_Release(&target);
    PyBuffer_Release(&source);
    PyBuffer_Release(&scratch);
    if (!done)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"copy", copy, METH_VARARGS, "copy(target, offset, strides, source, offset, strides, shape, width, scratch)"},
    {NULL, NULL, 0, NULL},
};

static int fill_module(PyObject *module) { return PyModule_AddIntConstant(module, "SCRATCH", SCRATCH); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)fill_module}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_strided", "Copies boxes of elements between strided places.", 0, methods, slots, NULL, NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__strided(void) { return PyModuleDef_Init(&definition); }
