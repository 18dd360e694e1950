/* check_plan.c - the planner's choice of nodes and copies, against worked examples and its own promises. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plan/nodes.h"

/* Four sockets of eight DDR5-4800 channels, and the machine's links: docs/design.md's reference machine. */
static struct plan_machine four_sockets(void)
{
    return (struct plan_machine){ .n_nodes = 4, .read_per_s = 249e9, .link_per_s = 48e9, .sync_s = 1e-6, .ops_per_s = 10e12,
                                  .node_bytes = 256e9 };
}

static struct plan_model yuan_102b(void)
{
    return (struct plan_model){ .weight_bytes = 57.7e9, .params = 102.6e9, .resident_bytes = 60e9, .n_layers = 84, .n_heads = 64,
                                .head_dim = 128, .d_model = 8192, .d_ff = 32768 };
}

static struct plan_model smollm2(void)
{
    return (struct plan_model){ .weight_bytes = 85e6, .params = 134.5e6, .resident_bytes = 98e6, .n_layers = 30, .n_heads = 9,
                                .head_dim = 64, .d_model = 576, .d_ff = 1536 };
}

static void assert_close(double got, double want)
{
    assert_true(fabs(got - want) <= 1e-3 * fabs(want));
}

/* Published and derived figures: P146, P147 and P148 to P150 of the planner's reference vectors. */
static void test_exchange_vectors(void **state)
{
    (void)state;
    const struct plan_model yuan = yuan_102b();
    const struct plan_model llama = { .n_heads = 64, .head_dim = 128, .d_model = 8192, .d_ff = 28672 };

    assert_close(plan_rows_exchange_bytes(&yuan, 1, 4), 229376);
    assert_close(plan_rows_exchange_bytes(&llama, 512, 2), 54525952);
    assert_close(plan_rows_exchange_s(84, 5, 1e-6, 229376, 4, 144e9), 0.520352e-3);
    assert_close(plan_rows_exchange_s(32, 5, 1e-6, 106496, 4, 144e9), 0.17774933e-3);
    assert_close(plan_rows_exchange_s(80, 5, 5e-7, 212992, 2, 48e9), 0.37749333e-3);
}

static void test_step_is_reads_and_exchange(void **state)
{
    (void)state;
    const struct plan_machine machine = four_sockets();
    const struct plan_model yuan = yuan_102b();

    assert_close(plan_step_s(&machine, &yuan, 1, 1), 57.7e9 / 249e9);
    assert_close(plan_step_s(&machine, &yuan, 4, 1), 57.7e9 / 996e9 + 0.520352e-3);
    /* many sequences: arithmetic, not memory */
    assert_close(plan_step_s(&machine, &yuan, 1, 1000), 2 * 102.6e9 * 1000 / 10e12);
}

static void test_large_model_takes_all_nodes(void **state)
{
    (void)state;
    struct plan_machine machine = four_sockets();
    const struct plan_model yuan = yuan_102b();

    assert_int_equal(plan_choose_nodes(&machine, &yuan), 4);
    assert_int_equal(plan_choose_replicas(&machine, &yuan, 1), 1);
    machine.n_nodes = 1;
    assert_int_equal(plan_choose_nodes(&machine, &yuan), 1);
    assert_int_equal(plan_choose_replicas(&machine, &yuan, 8), 1);
}

static void test_small_model_with_slow_barriers_stays_on_one(void **state)
{
    (void)state;
    struct plan_machine machine = four_sockets();
    const struct plan_model m = smollm2();

    machine.sync_s = 10e-6;     /* 30 layers x 5 barriers: 1.5 ms, four times the step of one node */
    assert_int_equal(plan_choose_nodes(&machine, &m), 1);
    assert_int_equal(plan_choose_replicas(&machine, &m, 32), 4);
}

static void test_memory_decides_first(void **state)
{
    (void)state;
    struct plan_machine machine = four_sockets();
    struct plan_model m = smollm2();

    machine.sync_s = 10e-6;
    machine.node_bytes = 40e6;  /* 98 MB need three of them */
    assert_int_equal(plan_choose_nodes(&machine, &m), 3);
    assert_int_equal(plan_choose_replicas(&machine, &m, 32), 1);
    machine.node_bytes = 60e6;
    assert_true(plan_choose_nodes(&machine, &m) >= 2);
    assert_int_equal(plan_choose_replicas(&machine, &m, 32), 1);     /* two copies on two nodes each wait as long as one on four */
    machine.node_bytes = 1e6;   /* nowhere: the loader says so, with the numbers */
    assert_int_equal(plan_choose_nodes(&machine, &m), 4);
    assert_int_equal(plan_choose_replicas(&machine, &m, 32), 1);
}

/* Never slower than one node, never a node that buys less than 2 %, whatever the machine. */
static void test_choice_is_never_beaten(void **state)
{
    (void)state;
    uint64_t seed = 1;

    for (int round = 0; round < 10000; round++) {
        double r[6];
        for (size_t i = 0; i < 6; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            r[i] = (double)(seed >> 40) / 16777216;
        }
        const struct plan_machine machine = { .n_nodes = 1 + (size_t)(r[0] * 8), .read_per_s = 20e9 + 500e9 * r[1],
                                              .link_per_s = 5e9 + 100e9 * r[2], .sync_s = 20e-6 * r[3], .ops_per_s = 1e12 + 30e12 * r[4],
                                              .node_bytes = 1e12 };
        struct plan_model m = smollm2();
        m.weight_bytes *= 1 + 1000 * r[5] * r[5];
        const size_t n = plan_choose_nodes(&machine, &m), replicas = plan_choose_replicas(&machine, &m, 32);
        const double step = plan_step_s(&machine, &m, n, 1);

        assert_true(n >= 1 && n <= machine.n_nodes && machine.n_nodes % replicas == 0);
        for (size_t i = 1; i <= machine.n_nodes; i++) {
            const double other = plan_step_s(&machine, &m, i, 1);
            assert_true(i < n ? other > step / 1.02 : other >= step / 1.02);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange_vectors), cmocka_unit_test(test_step_is_reads_and_exchange),
        cmocka_unit_test(test_large_model_takes_all_nodes), cmocka_unit_test(test_small_model_with_slow_barriers_stays_on_one),
        cmocka_unit_test(test_memory_decides_first), cmocka_unit_test(test_choice_is_never_beaten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
