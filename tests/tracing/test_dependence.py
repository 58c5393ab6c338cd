"""What depends on a source: weights do not, also inside of loops and branches."""

import tensorflow as tf

from xplique_sal._models.rules import operations
from xplique_sal._tracing.dependence import Dependence


def traced(function):
    graph = tf.function(function).get_concrete_function(tf.TensorSpec([3, 2])).graph
    return graph, Dependence([graph.inputs[0]])


def of_type(graph, op_type):
    (op,) = [op for op in graph.get_operations() if op.type == op_type]
    return op


def test_a_weight_and_what_is_made_of_it_do_not_depend():
    weight = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

    def function(x):
        return tf.nn.relu(x @ tf.square(weight)) + tf.stop_gradient(x)

    graph, dependence = traced(function)
    product = of_type(graph, "MatMul")
    assert [*map(dependence.reaches, product.inputs)] == [True, False]
    assert [*map(dependence.reaches, of_type(graph, "AddV2").inputs)] == [True, False]
    assert of_type(graph, "Relu") in dependence.ops(graph)
    assert of_type(graph, "Square") not in dependence.ops(graph)
    with graph.as_default():  # also what is added later
        late = tf.exp(product.outputs[0]) * weight[0]
    assert [*map(dependence.reaches, late.op.inputs)] == [True, False]


def test_a_state_depends_after_the_first_step_and_a_weight_never():
    weight = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

    def function(x):
        kernel = tf.identity(weight)

        def step(i, state, other):
            return i + 1, other + x, tf.tanh(state @ kernel)

        zeros = tf.zeros([3, 2])
        return tf.while_loop(lambda i, *_: i < 3, step, [0, zeros, zeros])[1]

    graph, dependence = traced(function)
    inner = {op.type: op for op in dependence.ops(graph) if op.graph is not graph}
    assert [*map(dependence.reaches, inner["MatMul"].inputs)] == [True, False]
    assert {"Tanh", "MatMul", "AddV2"} <= set(inner)
    assert dependence.reaches(graph.outputs[0])


def test_a_branch_depends_where_one_of_its_ways_does():
    def function(x):
        turned = tf.cond(tf.size(x) > 2, lambda: tf.exp(x), lambda: tf.ones_like(x))
        constant = tf.cond(tf.size(x) > 2, lambda: tf.ones([2]), lambda: tf.zeros([2]))
        return turned * constant

    graph, dependence = traced(function)
    assert [*map(dependence.reaches, of_type(graph, "Mul").inputs)] == [True, False]


def test_an_operation_is_in_one_group():
    groups = [set(group) for name, group in vars(operations).items() if name.isupper()]
    groups = [group for group in groups if group != operations.CONVOLUTIONS]
    assert sum(map(len, groups)) == len(set().union(*groups))
    # A name that TensorFlow does not have would never be met.
    assert all(hasattr(tf.raw_ops, name) for name in set().union(*groups))
