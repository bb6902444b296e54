#include "activations/h5.h"

#include "core/file.h"
#include "core/mem.h"

#include <errno.h>
#include <hdf5_hl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STRING_BYTES_MAX = 1 << 20, WORDS_MAX = 256 };

/* A thousandfold is the most that deflate can shrink, and the other filters hardly more. */
enum { FILTERED_RATIO_MAX = 1100 };

/* ---- errors ---- */

/* What HDF5 keeps of the innermost failure; the system's own reason where it quotes one. */
typedef struct reason {
    char words[WORDS_MAX];
    int number; /* errno, 0: unknown */
} reason;

static herr_t take_innermost(unsigned n, const H5E_error2_t *item, void *arg) {
    reason *r = arg;
    const char *desc = item->desc ? item->desc : "";
    const char *number = strstr(desc, "errno = "), *quoted = strstr(desc, "error message = '");
    if (number) r->number = atoi(number + strlen("errno = "));
    if (quoted) {
        quoted += strlen("error message = '");
        snprintf(r->words, sizeof r->words, "%.*s", (int)strcspn(quoted, "'"), quoted);
    } else if (n == 0) {
        snprintf(r->words, sizeof r->words, "%s", desc);
    }
    return 0;
}

err_code h5_fail(const h5_file *f, err *e, err_code code, const char *fmt, ...) {
    reason r = {.words = ""};
    char what[512];
    va_list args;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &r);
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    for (char *p = r.words; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
    if (r.number) code = r.number == ENOSPC || r.number == EDQUOT ? ERR_NOSPACE : r.number == ENOMEM ? ERR_NOMEM : ERR_IO;
    return err_set(e, code, "%s: %s%s%s", f->path ? f->path : "HDF5", what, r.words[0] ? ": " : "", r.words);
}

static void forget_exit(void) { H5dont_atexit(); }

/* HDF5 keeps per thread whether it prints its error stack. At exit it would write once more what it could not write before,
 * and crash where the disk is full. */
static void be_silent(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, forget_exit);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* ---- files ---- */

static hid_t access_list(void) {
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(list, H5F_CLOSE_STRONG);
    H5Pset_file_locking(list, false, true);
    return list;
}

static err_code forget(h5_file *f, err_code rc) {
    free(f->path);
    *f = H5_FILE_INIT;
    return rc;
}

err_code h5_create(const char *path, h5_file *out, err *e) {
    *out = H5_FILE_INIT;
    be_silent();
    if (!(out->path = strdup(path))) return err_nomem(e, "path", strlen(path));
    hid_t list = access_list();
    out->id = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, list);
    err_code rc = out->id < 0 ? h5_fail(out, e, ERR_IO, "cannot create") : ERR_OK;
    H5Pclose(list);
    return rc ? forget(out, rc) : ERR_OK;
}

err_code h5_open(const char *path, bool writable, h5_file *out, err *e) {
    struct stat st;
    *out = H5_FILE_INIT;
    be_silent();
    if (stat(path, &st) || access(path, writable ? R_OK | W_OK : R_OK)) return err_set_errno(e, "%s: cannot open", path);
    if (!S_ISREG(st.st_mode)) return err_set(e, ERR_FORMAT, "%s: expected an HDF5 file, found a folder or device", path);
    out->size = (uint64_t)st.st_size;
    if (!(out->path = strdup(path))) return err_nomem(e, "path", strlen(path));
    hid_t list = access_list();
    out->id = H5Fopen(path, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, list);
    err_code rc = out->id < 0 ? h5_fail(out, e, ERR_FORMAT, "expected an HDF5 file") : ERR_OK;
    H5Pclose(list);
    return rc ? forget(out, rc) : ERR_OK;
}

err_code h5_close(h5_file *f, err *e) {
    err_code rc = ERR_OK;
    be_silent(); /* the closing thread may be another one */
    if (f->id >= 0 && H5Fclose(f->id) < 0) rc = h5_fail(f, e, ERR_IO, "cannot write");
    return forget(f, rc);
}

/* ---- attributes ---- */

static hid_t utf8_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static err_code put_scalar(const h5_file *f, hid_t object, const char *name, hid_t type, const void *value, err *e) {
    err_code rc = ERR_OK;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Aexists(object, name) > 0 ? H5Aopen(object, name, H5P_DEFAULT)
                                                  : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, type, value) < 0)
        rc = h5_fail(f, e, ERR_IO, "cannot write the attribute %s", name);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return rc;
}

err_code h5_put_string(const h5_file *f, hid_t object, const char *name, const char *value, err *e) {
    hid_t type = utf8_type();
    err_code rc = put_scalar(f, object, name, type, &value, e);
    H5Tclose(type);
    return rc;
}

err_code h5_put_int(const h5_file *f, hid_t object, const char *name, int64_t value, err *e) {
    return put_scalar(f, object, name, H5T_NATIVE_INT64, &value, e);
}

err_code h5_put_real(const h5_file *f, hid_t object, const char *name, double value, err *e) {
    return put_scalar(f, object, name, H5T_NATIVE_DOUBLE, &value, e);
}

static const char *class_name(H5T_class_t cls) {
    return cls == H5T_INTEGER  ? "a whole number"
           : cls == H5T_FLOAT  ? "a real number"
           : cls == H5T_STRING ? "a string"
                               : "a value";
}

/* The attribute and its type when it is one value of this class. */
static err_code open_attribute(const h5_file *f, hid_t object, const char *where, const char *name, H5T_class_t cls,
                               hid_t *attribute, hid_t *type, err *e) {
    *attribute = *type = H5I_INVALID_HID;
    if (H5Aexists(object, name) <= 0 || (*attribute = H5Aopen(object, name, H5P_DEFAULT)) < 0)
        return err_set(e, ERR_FORMAT, "%s: %s: expected an attribute %s, found none", f->path, where, name);
    hid_t space = H5Aget_space(*attribute);
    *type = H5Aget_type(*attribute);
    bool fits = *type >= 0 && H5Tget_class(*type) == cls && H5Sget_simple_extent_npoints(space) == 1;
    if (space >= 0) H5Sclose(space);
    if (fits) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%s: %s: attribute %s: expected %s, found something else", f->path, where, name,
                   class_name(cls));
}

static void close_attribute(hid_t attribute, hid_t type) {
    if (type >= 0) H5Tclose(type);
    if (attribute >= 0) H5Aclose(attribute);
}

static err_code unreadable(const h5_file *f, const char *where, const char *name, err *e) {
    return h5_fail(f, e, ERR_FORMAT, "%s: cannot read the attribute %s", where, name);
}

static err_code get_variable_string(const h5_file *f, hid_t attribute, hid_t type, const char *where, const char *name,
                                    char **out, err *e) {
    char *text = NULL;
    if (H5Aread(attribute, type, &text) < 0) return unreadable(f, where, name, e);
    *out = strndup(text ? text : "", STRING_BYTES_MAX);
    if (text) H5free_memory(text);
    return *out ? ERR_OK : err_nomem(e, "an attribute", STRING_BYTES_MAX);
}

static err_code get_fixed_string(const h5_file *f, hid_t attribute, hid_t type, const char *where, const char *name,
                                 char **out, err *e) {
    size_t n = H5Tget_size(type);
    if (n > STRING_BYTES_MAX)
        return err_set(e, ERR_FORMAT, "%s: %s: attribute %s: expected at most %d bytes, found %zu", f->path, where, name,
                       STRING_BYTES_MAX, n);
    err_code rc = mem_new0(out, n + 1, 1, "an attribute", e);
    if (!rc && H5Aread(attribute, type, *out) < 0) rc = unreadable(f, where, name, e);
    return rc;
}

bool h5_has(hid_t object, const char *name) { return H5Aexists(object, name) > 0; }

err_code h5_get_string(const h5_file *f, hid_t object, const char *where, const char *name, char **out, err *e) {
    hid_t attribute, type;
    *out = NULL;
    err_code rc = open_attribute(f, object, where, name, H5T_STRING, &attribute, &type, e);
    if (!rc)
        rc = H5Tis_variable_str(type) > 0 ? get_variable_string(f, attribute, type, where, name, out, e)
                                          : get_fixed_string(f, attribute, type, where, name, out, e);
    close_attribute(attribute, type);
    if (rc) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

static err_code get_scalar(const h5_file *f, hid_t object, const char *where, const char *name, H5T_class_t cls,
                           hid_t memory_type, void *out, err *e) {
    hid_t attribute, type;
    err_code rc = open_attribute(f, object, where, name, cls, &attribute, &type, e);
    if (!rc && H5Aread(attribute, memory_type, out) < 0) rc = unreadable(f, where, name, e);
    close_attribute(attribute, type);
    return rc;
}

err_code h5_get_int(const h5_file *f, hid_t object, const char *where, const char *name, int64_t *out, err *e) {
    return get_scalar(f, object, where, name, H5T_INTEGER, H5T_NATIVE_INT64, out, e);
}

err_code h5_get_real(const h5_file *f, hid_t object, const char *where, const char *name, double *out, err *e) {
    return get_scalar(f, object, where, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, out, e);
}

/* ---- arrays ---- */

err_code h5_put_array(const h5_file *f, const char *name, hid_t type, uint64_t n, const void *values, err *e) {
    err_code rc = ERR_OK;
    hsize_t dims[1] = {n};
    hid_t space = H5Screate_simple(1, dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE), groups = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
    H5Pset_create_intermediate_group(groups, 1);
    hid_t dataset = H5Dcreate2(f->id, name, type, space, groups, list, H5P_DEFAULT);
    if (dataset < 0 || (n && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0))
        rc = h5_fail(f, e, ERR_IO, "cannot write %s", name);
    if (dataset >= 0) H5Dclose(dataset);
    H5Pclose(groups);
    H5Pclose(list);
    H5Sclose(space);
    return rc;
}

err_code h5_put_scale(const h5_file *f, const char *dataset, unsigned dimension, const char *scale, const char *name,
                      err *e) {
    err_code rc = ERR_OK;
    hid_t to = H5Dopen2(f->id, dataset, H5P_DEFAULT), from = H5Dopen2(f->id, scale, H5P_DEFAULT);
    if (to < 0 || from < 0 || (H5DSis_scale(from) <= 0 && H5DSset_scale(from, name) < 0) ||
        H5DSattach_scale(to, from, dimension) < 0 || H5DSset_label(to, dimension, name) < 0)
        rc = h5_fail(f, e, ERR_IO, "cannot make %s a scale of %s", scale, dataset);
    if (to >= 0) H5Dclose(to);
    if (from >= 0) H5Dclose(from);
    return rc;
}

/* Whether its values are all in this file, and whether they are filtered. */
static void look_at_layout(hid_t dataset, bool *here, bool *filtered) {
    hid_t list = H5Dget_create_plist(dataset);
    H5D_layout_t layout = list < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(list);
    *here = layout == H5D_COMPACT || layout == H5D_CHUNKED || (layout == H5D_CONTIGUOUS && H5Pget_external_count(list) == 0);
    *filtered = layout == H5D_CHUNKED && H5Pget_nfilters(list) > 0;
    if (list >= 0) H5Pclose(list);
}

/* Refuses a dataset that claims more than the file can hold. */
static err_code check_storage(const h5_file *f, const char *name, hid_t dataset, uint64_t values, size_t size, err *e) {
    size_t claimed;
    uint64_t held = H5Dget_storage_size(dataset);
    bool here, filtered;
    look_at_layout(dataset, &here, &filtered);
    if (!here)
        return err_set(e, ERR_UNSUPPORTED, "%s: %s: keeps its values in other files, expected them in this one", f->path,
                       name);
    bool lies = !mem_mul((size_t)values, size, &claimed) || held > f->size ||
                (filtered ? claimed / FILTERED_RATIO_MAX > held : claimed > held);
    if (!lies) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%s: %s: expected %llu values of %zu bytes, found %llu bytes", f->path, name,
                   (unsigned long long)values, size, (unsigned long long)held);
}

static herr_t never_follow(const char *from, const char *group, const char *file, const char *object, unsigned *flags,
                           hid_t list, void *user) {
    (void)from, (void)group, (void)file, (void)object, (void)flags, (void)list, (void)user;
    return -1;
}

H5O_type_t h5_type_at(const h5_file *f, const char *name) {
    H5O_info_t info;
    hid_t list = H5Pcreate(H5P_LINK_ACCESS);
    H5Pset_elink_cb(list, never_follow, NULL);
    bool found = H5Oget_info_by_name2(f->id, name, &info, H5O_INFO_BASIC, list) >= 0;
    H5Pclose(list);
    return found ? info.type : H5O_TYPE_UNKNOWN;
}

static err_code open_dataset(const h5_file *f, const char *name, hid_t *out, err *e) {
    *out = H5I_INVALID_HID;
    if (h5_type_at(f, name) != H5O_TYPE_DATASET)
        return err_set(e, ERR_FORMAT, "%s: expected a dataset %s in the file, found none", f->path, name);
    *out = H5Dopen2(f->id, name, H5P_DEFAULT);
    return *out < 0 ? h5_fail(f, e, ERR_FORMAT, "cannot open the dataset %s", name) : ERR_OK;
}

static int dims_of(hid_t dataset, hsize_t dims[H5S_MAX_RANK]) {
    hid_t space = H5Dget_space(dataset);
    int rank = space < 0 || H5Sis_simple(space) <= 0 ? -1 : H5Sget_simple_extent_dims(space, dims, NULL);
    if (space >= 0) H5Sclose(space);
    return rank;
}

static bool is_list_of(hid_t dataset, hid_t type, H5T_class_t cls, hsize_t dims[H5S_MAX_RANK]) {
    if (type < 0 || dims_of(dataset, dims) != 1 || H5Tget_class(type) != cls) return false;
    if (cls == H5T_STRING) return H5Tis_variable_str(type) == 0;
    return cls != H5T_INTEGER || H5Tget_sign(type) == H5T_SGN_NONE;
}

err_code h5_open_array(const h5_file *f, const char *name, H5T_class_t cls, hid_t *dataset, uint64_t *n, err *e) {
    hsize_t dims[H5S_MAX_RANK] = {0};
    err_code rc = open_dataset(f, name, dataset, e);
    if (rc) return rc;
    hid_t type = H5Dget_type(*dataset);
    if (!is_list_of(*dataset, type, cls, dims))
        rc = err_set(e, ERR_FORMAT, "%s: %s: expected a list, each item %s, found something else", f->path, name,
                     cls == H5T_STRING    ? "a string of fixed length"
                     : cls == H5T_INTEGER ? "a whole number without sign"
                                          : class_name(cls));
    else
        rc = check_storage(f, name, *dataset, dims[0], H5Tget_size(type), e);
    if (type >= 0) H5Tclose(type);
    if (rc) {
        H5Dclose(*dataset);
        *dataset = H5I_INVALID_HID;
    }
    *n = dims[0];
    return rc;
}

err_code h5_get_array(const h5_file *f, const char *name, H5T_class_t cls, hid_t memory_type, size_t size, void *out,
                      uint64_t *n, err *e) {
    hid_t dataset;
    void *values = NULL;
    memcpy(out, &values, sizeof values);
    err_code rc = h5_open_array(f, name, cls, &dataset, n, e);
    if (rc) return rc;
    TRY(mem_new(&values, (size_t)*n, size, name, e));
    if (*n && H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        rc = h5_fail(f, e, ERR_FORMAT, "cannot read %s", name);
done:
    H5Dclose(dataset);
    if (rc)
        free(values);
    else
        memcpy(out, &values, sizeof values);
    return rc;
}

/* ---- rows ---- */

hid_t h5_type_of(const dtype *t) {
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (t->id == STORE_F16) {
        H5Tset_fields(type, 15, 10, 5, 0, 10);
        H5Tset_size(type, 2);
        H5Tset_ebias(type, 15);
    } else if (t->id == STORE_BF16) {
        H5Tset_fields(type, 15, 7, 8, 0, 7);
        H5Tset_size(type, 2);
        H5Tset_ebias(type, 127);
    }
    return type;
}

bool h5_is_rows(hid_t dataset) {
    hsize_t dims[H5S_MAX_RANK];
    hid_t type = H5Dget_type(dataset);
    bool is = type >= 0 && H5Tget_class(type) == H5T_FLOAT && dims_of(dataset, dims) >= 2;
    if (type >= 0) H5Tclose(type);
    return is;
}

/* The dtype whose bytes stand in the file as they are; NULL when there is none and HDF5 has to convert. */
static const dtype *stored_as(hid_t type, hid_t *memory_type) {
    for (int i = 0; i < STORE_DTYPES; i++) {
        *memory_type = h5_type_of(dtype_of((store_dtype)i));
        if (H5Tequal(type, *memory_type) > 0) return dtype_of((store_dtype)i);
        H5Tclose(*memory_type);
    }
    *memory_type = H5Tcopy(H5T_NATIVE_FLOAT);
    return NULL;
}

static err_code check_shape(const h5_file *f, const char *name, int rank, const hsize_t *dims, h5_rows *out, err *e) {
    size_t d = 1, values = 0;
    for (int i = 1; i < rank; i++)
        if (!mem_mul(d, dims[i], &d)) d = SIZE_MAX;
    if (dims[0] < 1 || d < 1 || d > INT32_MAX || !mem_mul(dims[0], d, &values) || values > INT64_MAX / sizeof(double))
        return err_set(e, ERR_FORMAT, "%s: %s: expected rows of numbers, found the shape [%llu, %llu]", f->path, name,
                       (unsigned long long)dims[0], (unsigned long long)d);
    out->n_rows = (int64_t)dims[0];
    out->d = (int64_t)d;
    return ERR_OK;
}

err_code h5_rows_open(const h5_file *f, const char *name, h5_rows *out, err *e) {
    hsize_t dims[H5S_MAX_RANK];
    hid_t type = H5I_INVALID_HID;
    *out = (h5_rows){0};
    err_code rc = open_dataset(f, name, &out->dataset, e);
    if (rc) return rc;
    int rank = dims_of(out->dataset, dims);
    if (!h5_is_rows(out->dataset)) {
        rc = err_set(e, ERR_FORMAT, "%s: %s: expected rows of real numbers [n, d], found something else", f->path, name);
        goto done;
    }
    TRY(check_shape(f, name, rank, dims, out, e));
    type = H5Dget_type(out->dataset);
    TRY(check_storage(f, name, out->dataset, (uint64_t)(out->n_rows * out->d), H5Tget_size(type), e));
    out->type = stored_as(type, &out->memory_type);
    if (!out->type) out->type = dtype_of(STORE_F32);
done:
    if (type >= 0) H5Tclose(type);
    if (rc) h5_rows_close(out);
    return rc;
}

void h5_rows_close(h5_rows *r) {
    if (r->memory_type > 0) H5Tclose(r->memory_type);
    if (r->dataset > 0) H5Dclose(r->dataset);
    *r = (h5_rows){0};
}

static hid_t select_rows(const h5_rows *r, int64_t first, int64_t n) {
    hsize_t start[H5S_MAX_RANK] = {(hsize_t)first}, count[H5S_MAX_RANK];
    hid_t space = H5Dget_space(r->dataset);
    if (space < 0) return space;
    H5Sget_simple_extent_dims(space, count, NULL);
    count[0] = (hsize_t)n;
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    return space;
}

static hid_t memory_of(const h5_rows *r, int64_t n) {
    hsize_t values = (hsize_t)n * (hsize_t)r->d;
    return H5Screate_simple(1, &values, NULL);
}

err_code h5_rows_read(const h5_file *f, const h5_rows *r, int64_t first, int64_t n, void *x, err *e) {
    if (!n) return ERR_OK;
    err_code rc = ERR_OK;
    hid_t there = select_rows(r, first, n), here = memory_of(r, n);
    if (there < 0 || H5Dread(r->dataset, r->memory_type, here, there, H5P_DEFAULT, x) < 0)
        rc = h5_fail(f, e, ERR_FORMAT, "cannot read rows %lld to %lld", (long long)first, (long long)(first + n - 1));
    if (there >= 0) H5Sclose(there);
    H5Sclose(here);
    return rc;
}

err_code h5_rows_write(const h5_file *f, const h5_rows *r, int64_t first, int64_t n, const void *x, err *e) {
    if (!n) return ERR_OK;
    err_code rc = ERR_OK;
    hid_t there = select_rows(r, first, n), here = memory_of(r, n);
    if (there < 0 || H5Dwrite(r->dataset, r->memory_type, here, there, H5P_DEFAULT, x) < 0)
        rc = h5_fail(f, e, ERR_IO, "cannot write rows %lld to %lld", (long long)first, (long long)(first + n - 1));
    if (there >= 0) H5Sclose(there);
    H5Sclose(here);
    return rc;
}
