/* Products of matrices as they stand: our kernels at every machine level, and whatever the door to OpenBLAS leads to, against
 * plain double precision. Catches: a matrix read the wrong way round, tails of tiles and of stretches of k, sums that are
 * added to what was there before or not, columns behind the last one written, bits that depend on the thread count. */
#include "support/test.h"

#include "core/rng.h"
#include "math/blas.h"
#include "math/kernels/product.h"
#include "math/ref.h"

static const int64_t shapes[][3] = {{1, 1, 1},      {3, 5, 0},      {13, 7, 2},    {14, 16, 31},  {29, 33, 257},
                                    {100, 65, 385}, {253, 20, 576}, {600, 70, 40}, {300, 800, 64}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static float *normals(int64_t n, uint64_t index) {
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    rng r = rng_stream(21, RNG_SYNTHETIC, index);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)rng_normal(&r);
    return x;
}

static float *turned(const float *x, int64_t rows, int64_t columns) {
    float *t = malloc((size_t)(rows * columns + 1) * sizeof *t);
    assert_non_null(t);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) t[j * rows + i] = x[i * columns + j];
    return t;
}

/* x [m, k], w [n, k], and both turned; y has a mark behind each row. */
typedef struct matrices {
    int64_t m, n, k;
    float *x, *x_turned, *w, *w_turned, *y;
    double *expected;
} matrices;

static matrices make(const int64_t shape[3], uint64_t index) {
    matrices a = {.m = shape[0], .n = shape[1], .k = shape[2]};
    a.x = normals(a.m * a.k, 2 * index), a.w = normals(a.n * a.k, 2 * index + 1);
    a.x_turned = turned(a.x, a.m, a.k), a.w_turned = turned(a.w, a.n, a.k);
    a.y = malloc((size_t)(a.m * (a.n + 1)) * sizeof *a.y);
    a.expected = malloc((size_t)(a.m * a.n) * sizeof *a.expected);
    ref_gemm(a.expected, a.x, a.w, NULL, a.m, a.n, a.k);
    for (int64_t i = 0; i < a.m * (a.n + 1); i++) a.y[i] = 7;
    return a;
}

static void compare(const matrices *a, bool add) {
    for (int64_t i = 0; i < a->m; i++) {
        assert_true(a->y[i * (a->n + 1) + a->n] == 7);
        for (int64_t j = 0; j < a->n; j++) {
            double got = a->y[i * (a->n + 1) + j], want = a->expected[i * a->n + j] + (add ? 7 : 0);
            if (!(fabs(got - want) <= 4e-6 * (2 + sqrt((double)a->k))))
                fail_msg("%ld x %ld x %ld at %ld, %ld: %g, expected %g", (long)a->m, (long)a->n, (long)a->k, (long)i, (long)j,
                         got, want);
        }
    }
}

static void release(matrices *a) {
    free(a->x), free(a->x_turned), free(a->w), free(a->w_turned), free(a->y), free(a->expected);
}

static void kernels_of_every_level(void **state) {
    (void)state;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int s = 0; s < N_SHAPES; s++)
            for (int way = 0; way < 8; way++) {
                matrices a = make(shapes[s], (uint64_t)s);
                bool x_turned = way & 1, w_turned = way & 2, add = way & 4;
                product_kernel_for(level)(&(product){a.m, a.n, a.k, x_turned ? a.x_turned : a.x, x_turned ? a.m : a.k,
                                                     x_turned, w_turned ? a.w : a.w_turned, w_turned ? a.k : a.n, w_turned,
                                                     add, a.y, a.n + 1});
                compare(&a, add);
                release(&a);
            }
}

static void the_door_to_openblas(void **state) {
    (void)state;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int s = 0; s < N_SHAPES; s++)
            for (int way = 0; way < 8; way++) {
                if (!shapes[s][2]) continue; /* BLAS has no products of nothing */
                matrices a = make(shapes[s], (uint64_t)s);
                ctx c = test_ctx(1 + s % 3);
                bool add = way & 4;
                int64_t ldy = a.n + 1;
                c.cpu = level;
                if (way % 4 == 0) blas_gemm_nt(&c, a.m, a.n, a.k, a.x, a.k, a.w, a.k, add, a.y, ldy);
                if (way % 4 == 1) blas_gemm_tn(&c, a.m, a.n, a.k, a.x_turned, a.m, a.w_turned, a.n, add, a.y, ldy);
                if (way % 4 == 2) blas_gemm_nt_serial(&c, a.m, a.n, a.k, a.x, a.k, a.w, a.k, add, a.y, ldy);
                if (way % 4 == 3) blas_gemm_nn_serial(&c, a.m, a.n, a.k, a.x, a.k, a.w_turned, a.n, add, a.y, ldy);
                compare(&a, add);
                release(&a);
            }
}

static void same_bits_for_any_number_of_threads(void **state) {
    (void)state;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++) {
        const int64_t shape[3] = {600, 1700, 300};
        matrices a = make(shape, 99), b = make(shape, 99);
        ctx one = test_ctx(1), four = test_ctx(4);
        one.cpu = four.cpu = level;
        blas_gemm_nt(&one, a.m, a.n, a.k, a.x, a.k, a.w, a.k, false, a.y, a.n + 1);
        blas_gemm_nt(&four, b.m, b.n, b.k, b.x, b.k, b.w, b.k, false, b.y, b.n + 1);
        assert_memory_equal(a.y, b.y, (size_t)(a.m * (a.n + 1)) * sizeof *a.y);
        release(&a), release(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_of_every_level),
        cmocka_unit_test(the_door_to_openblas),
        cmocka_unit_test(same_bits_for_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
