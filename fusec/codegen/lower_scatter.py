"""From a scatter to scalar lines: what is added, or stored, at places that data choose."""

from fusec.codegen.loops import Body, Buffer, Store, offset
from fusec.codegen.lower import Layout, Lowering
from fusec.passes.groups import Group, is_joined, scatter_index


def lower_scatter(group: Group, layout: Layout) -> Body:
    """The additions of a scatter, or its values; what is there before is stored first."""
    (node,) = group.members
    adds = node.op.name == "scatter_add"
    buffer = Buffer("y0", node.dtype, layout.out_place(node).strides, "out", node)
    before, begun = Lowering(Group(-1, node.shape), layout), Group(-1, node.shape)
    index = offset(begun.indices, buffer.strides)
    stores = [Store(buffer, index, before.value(node.inputs[0], begun.indices))]
    start = before.body([] if is_joined(node) else stores)
    adding = Lowering(group, layout)
    places = scatter_index(node, group.indices, group)
    index = offset(places, buffer.strides)
    value = adding.value(node.inputs[1], group.indices)
    body = adding.body([Store(buffer, index, value, adding.data(index), adds=adds)])
    apart = {i.terms[0][0] for i in places if len(i.terms) == 1 and not i.const}
    body.reduced = tuple([v for v in group.extents if v not in apart])
    start.title, start.notes = f"what {node.op.name} begins with", body.notes
    body.first = start
    return body
