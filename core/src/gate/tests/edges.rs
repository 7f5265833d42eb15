//! Every bound at limit - 1, limit and limit + 1, and every rule of a single operation.

use super::*;
use crate::limits::*;

/// Asserts that `make` passes one below the limit and at it, and breaks `rule` one above.
fn assert_edge(limit: u64, rule: &str, make: impl Fn(u64) -> Forged) {
    assert_eq!(make(limit - 1).verdict(), "ok", "{rule} below");
    assert_eq!(make(limit).verdict(), "ok", "{rule} at");
    assert_eq!(make(limit + 1).verdict(), rule, "above");
}

/// Two bytes that count up, to tell actors and hashes apart.
fn numbered(index: u64) -> [u8; 2] {
    (index as u16).to_be_bytes()
}

#[test]
fn counts_are_bounded() {
    assert_edge(CHANGE_DEPS_MAX as u64, "too-many-deps", |count| {
        Forged::with(|forged| {
            forged.deps = (0..count)
                .map(|index| {
                    let mut hash = [0; 32];
                    hash[..2].copy_from_slice(&numbered(index));
                    hash
                })
                .collect();
        })
    });
    assert_edge(CHANGE_OPS_MAX, "too-many-ops", Forged::overwrites);
    // The first of them stands beside nothing.
    assert_edge(OWN_CONFLICTS_MAX + 1, "own-conflict", Forged::puts);
    assert_edge(CHANGE_ACTORS_MAX as u64, "too-many-actors", |count| {
        // One predecessor of each actor, all with the counter 5.
        let mut actors = Vec::new();
        write_signed(&mut actors, -count.cast_signed());
        (1..=count).for_each(|index| write_unsigned(&mut actors, index));
        let mut total = vec![0x7f];
        write_unsigned(&mut total, count);
        let mut counters = vec![0x7f, 5];
        write_signed(&mut counters, count.cast_signed() - 1);
        counters.push(0);
        let mut forged = Forged::with(|forged| forged.start_op = 7);
        forged.others = (0..count).map(|index| numbered(index).to_vec()).collect();
        forged
            .column(number::PRED_COUNT, &total)
            .column(number::PRED_ACTOR, &actors)
            .column(number::PRED_COUNTER, &counters)
    });
    assert_edge(CHANGE_PREDS_MAX, "too-many-preds", |count| {
        let mut total = vec![0x7f];
        write_unsigned(&mut total, count);
        let mut actors = Vec::new();
        write_signed(&mut actors, count.cast_signed());
        let mut counters = actors.clone();
        actors.push(0);
        counters.push(1);
        Forged::with(|forged| forged.start_op = count + 1)
            .column(number::PRED_COUNT, &total)
            .column(number::PRED_ACTOR, &actors)
            .column(number::PRED_COUNTER, &counters)
    });
    let columns = Forged::with(|forged| (0..40).for_each(|id| drop(forged.columns.insert(0x200 + id, vec![1]))));
    assert_eq!(columns.verdict(), "columns");
}

#[test]
fn lengths_are_bounded() {
    assert_edge(ACTOR_BYTES_MAX as u64, "actor-length", |length| {
        Forged::with(|forged| forged.actor = vec![1; length as usize])
    });
    assert_edge(CHANGE_MESSAGE_BYTES_MAX as u64, "message-too-long", |length| {
        Forged::with(|forged| forged.message = vec![b'm'; length as usize])
    });
    assert_edge(CHANGE_EXTRA_BYTES_MAX as u64, "extra-too-long", |length| {
        Forged::with(|forged| forged.extra = vec![7; length as usize])
    });
}

/// A change whose body has exactly `length` bytes, most of them in one value.
fn of_bytes(length: usize) -> Forged {
    let with_value = |bytes: usize| {
        let mut meta = vec![0x7f];
        write_unsigned(&mut meta, (bytes as u64) << 4 | 7);
        Forged::puts(1).column(number::VALUE_META, &meta).column(number::VALUE, &vec![3; bytes])
    };
    let overhead = with_value(length - 64).body().len() - (length - 64);
    with_value(length - overhead)
}

#[test]
fn a_change_is_bounded_before_and_after_it_is_inflated() {
    for (length, plain, deflated) in [
        (CHANGE_BYTES_MAX - 1, "ok", "ok"),
        (CHANGE_BYTES_MAX, "ok", "ok"),
        (CHANGE_BYTES_MAX + 1, "change-too-large", "inflate-too-large"),
    ] {
        let body = of_bytes(length).body();
        assert_eq!(body.len(), length);
        assert_eq!(verdict(&chunk_of(&body)), plain);
        assert_eq!(verdict(&compressed_chunk_of(&body)), deflated);
    }
}

#[test]
fn numbers_are_bounded() {
    assert_edge(OP_COUNTER_MAX, "op-counter", |counter| Forged::with(|forged| forged.start_op = counter));
    assert_edge(OP_COUNTER_MAX, "seq-too-large", |seq| Forged::with(|forged| forged.seq = seq));
    assert_edge(TIMESTAMP_ABS_MAX.unsigned_abs(), "timestamp", |time| {
        Forged::with(|forged| forged.time = time.cast_signed())
    });
    assert_edge(TIMESTAMP_ABS_MAX.unsigned_abs(), "timestamp", |time| {
        Forged::with(|forged| forged.time = -time.cast_signed())
    });
    let fifty = |start_op| {
        let mut forged = Forged::puts(50);
        forged.start_op = start_op;
        forged.verdict()
    };
    assert_eq!(fifty(OP_COUNTER_MAX - 49), "ok");
    assert_eq!(fifty(OP_COUNTER_MAX - 48), "op-counter");
}

#[test]
fn empty_change_ends_before_it_starts() {
    let empty = Forged::with(|forged| forged.columns.clear());
    let checked = CheckedChange::parse(&empty.chunk()).unwrap();
    assert_eq!((checked.op_count(), checked.start_op(), checked.max_op()), (0, 1, 0));
    assert_eq!(checked.ops().count(), 0);
    assert_eq!(Change::from_bytes(empty.chunk()).unwrap().max_op(), 0);
}

#[test]
fn columns_are_known_and_in_order() {
    assert_eq!(Forged::puts(1).column(0x61, &[0x7f, 0]).verdict(), "columns");
    assert_eq!(Forged::puts(1).column(number::ACTION | 8, &[1]).verdict(), "columns");
    assert_eq!(Forged::puts(1).column(number::VALUE, &[]).verdict(), "columns");
    assert_eq!(Forged::puts(1).column(u64::MAX, &[1]).verdict(), "columns");
}

#[test]
fn columns_have_a_row_for_each_operation() {
    for column in [number::KEY_TEXT, number::VALUE_META, number::PRED_COUNT] {
        assert_eq!(Forged::puts(2).column(column, &[3, 0]).verdict(), "column-length", "{column:x}");
    }
    assert_eq!(Forged::puts(2).column(number::INSERT, &[1]).verdict(), "column-length");
    assert_eq!(Forged::puts(2).column(number::KEY_TEXT, &[0x7f, 1, b'k']).verdict(), "column-length");
    assert_eq!(Forged::puts(1).column(number::PRED_ACTOR, &[0x7f, 0]).verdict(), "column-length");
    assert_eq!(Forged::puts(1).column(number::PRED_COUNTER, &[0x7f, 1]).verdict(), "column-length");
    assert_eq!(Forged::puts(1).column(number::VALUE, &[1]).verdict(), "value");
    for column in [number::INSERT, number::VALUE_META, number::PRED_COUNT] {
        let without = Forged::with(|forged| drop(forged.columns.remove(&column)));
        assert_eq!(without.verdict(), "column-length", "{column:x}");
    }
}

#[test]
fn runs_have_one_form() {
    let action = |column: &[u8]| Forged::puts(4).column(number::ACTION, column).verdict();
    assert_eq!(action(&[4, 1]), "ok");
    for column in [
        &[2, 1, 2, 1][..],
        &[1, 1, 3, 1],
        &[0x7f, 1, 3, 1],
        &[0x7c, 1, 1, 1, 1],
        &[0x7e, 1, 3, 0x7e, 1, 3],
        &[3, 1, 0x7f, 1],
        &[0, 0, 4, 1],
    ] {
        assert_eq!(action(column), "runs", "{column:?}");
    }
    assert_eq!(Forged::puts(4).column(number::MARK_NAME, &[0, 4]).verdict(), "runs");
    assert_eq!(Forged::puts(4).column(number::MARK_NAME, &[0, 2, 0, 2]).verdict(), "runs");
    assert_eq!(Forged::puts(4).column(number::EXPAND, &[4]).verdict(), "runs");
    assert_eq!(Forged::puts(4).column(number::INSERT, &[2, 0, 2]).verdict(), "runs");
    assert_eq!(Forged::puts(4).column(number::INSERT, &[4, 0]).verdict(), "runs");
}

#[test]
fn values_fit_their_type_and_operation() {
    let put = |action: u8, meta: &[u8], bytes: &[u8]| {
        let mut forged = Forged::with(|forged| forged.start_op = 7);
        forged = forged.column(number::ACTION, &[0x7f, action]);
        forged = forged.column(number::VALUE_META, &[&[0x7f], meta].concat());
        if !bytes.is_empty() {
            forged = forged.column(number::VALUE, bytes);
        }
        if matches!(action, 3 | 5) {
            forged = forged.column(number::PRED_COUNT, &[0x7f, 1]).column(number::PRED_ACTOR, &[0x7f, 0]);
            forged = forged.column(number::PRED_COUNTER, &[0x7f, 5]);
        }
        forged.verdict()
    };
    assert_eq!(put(1, &[0x13], &[5]), "ok");
    assert_eq!(put(1, &[0x10], &[5]), "value", "null with a byte");
    assert_eq!(put(1, &[0x12], &[5]), "value", "true with a byte");
    assert_eq!(put(1, &[0x23], &[5, 5]), "value", "an integer and a byte more");
    assert_eq!(put(1, &[0x23], &[0x85, 0]), "integer");
    assert_eq!(put(1, &[0x15], &[5]), "truncated", "a float of one byte");
    assert_eq!(put(1, &[0x16], &[0xff]), "text");
    assert_eq!(put(1, &[0x17], &[0xff]), "ok");
    assert_eq!(put(1, &[0x1f], &[0xff]), "ok");
    assert_eq!(put(1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &[1]), "value");
    assert_eq!(put(0, &[0], &[]), "ok");
    assert_eq!(put(0, &[0x13], &[5]), "value", "make with a value");
    assert_eq!(put(3, &[0], &[]), "ok");
    assert_eq!(put(3, &[1], &[]), "value", "delete with a value");
    assert_eq!(put(5, &[0x14], &[5]), "ok");
    assert_eq!(put(5, &[0x13], &[5]), "value", "increment by an unsigned");
    assert_eq!(put(5, &[0], &[]), "value", "increment by nothing");
    assert_eq!(put(8, &[0], &[]), "action");
}

#[test]
fn operations_refer_to_earlier_ones_in_order() {
    let preds = |counters: &[u8]| {
        let count = counters.len() as u8;
        let mut forged = Forged::with(|forged| forged.start_op = 7).column(number::PRED_COUNT, &[0x7f, count]);
        let head = [if count == 1 { 0x7f } else { count }, 0];
        forged = forged.column(number::PRED_ACTOR, &head);
        forged = forged.column(number::PRED_COUNTER, &[&[0x80 - count], counters].concat());
        forged.verdict()
    };
    assert_eq!(preds(&[6]), "ok");
    assert_eq!(preds(&[7]), "reference");
    assert_eq!(preds(&[0]), "reference");
    assert_eq!(preds(&[0x7f]), "reference");
    assert_eq!(preds(&[4, 1]), "ok");
    assert_eq!(preds(&[4, 0]), "pred-order");
    assert_eq!(preds(&[4, 0x7f]), "pred-order");
}

#[test]
fn operations_mix_only_what_goes_together() {
    let base = || Forged::with(|forged| forged.start_op = 7);
    let in_object = || base().column(number::OBJECT_ACTOR, &[0x7f, 0]).column(number::OBJECT_COUNTER, &[0x7f, 5]);
    let at_head = |mut forged: Forged| {
        forged.columns.remove(&number::KEY_TEXT);
        forged.column(number::KEY_COUNTER, &[0x7f, 0])
    };
    let insert = |forged: Forged| forged.column(number::INSERT, &[0, 1]);
    assert_eq!(insert(at_head(in_object())).verdict(), "ok");
    assert_eq!(at_head(in_object()).verdict(), "operation", "the head is no element");
    assert_eq!(insert(at_head(base())).verdict(), "operation", "the root has no elements");
    assert_eq!(insert(in_object()).verdict(), "operation", "a field is not inserted");
    assert_eq!(base().column(number::KEY_COUNTER, &[0x7f, 0]).verdict(), "operation", "two keys");
    assert_eq!(base().column(number::KEY_ACTOR, &[0x7f, 0]).verdict(), "operation", "two keys");
    assert_eq!(base().column(number::OBJECT_COUNTER, &[0x7f, 5]).verdict(), "reference", "half an id");
    assert_eq!(base().column(number::ACTION, &[0x7f, 3]).verdict(), "operation", "a delete of nothing");
    assert_eq!(base().column(number::MARK_NAME, &[0x7f, 1, b'b']).verdict(), "operation", "a put with a name");
    assert_eq!(base().column(number::EXPAND, &[0, 1]).verdict(), "operation", "a put that expands");
    let mark_end = insert(at_head(in_object())).column(number::ACTION, &[0x7f, 7]);
    assert_eq!(mark_end.verdict(), "mark-pair");
    assert_eq!(mark_end.column(number::MARK_NAME, &[0x7f, 1, b'b']).verdict(), "ok", "the begin of a mark");
    // A mark over one element after element 6 of list 5, and what its end may not be inserted after.
    let mark = |end: &[u8]| {
        let mut forged = Forged::with(|forged| (forged.start_op, forged.columns) = (9, [].into()))
            .column(number::OBJECT_ACTOR, &[2, 0])
            .column(number::OBJECT_COUNTER, &[2, 5])
            .column(number::KEY_COUNTER, &[&[0x7e, 6], end].concat())
            .column(number::INSERT, &[0, 2])
            .column(number::ACTION, &[2, 7])
            .column(number::VALUE_META, &[2, 0])
            .column(number::PRED_COUNT, &[2, 0])
            .column(number::MARK_NAME, &[0x7f, 1, b'b', 0, 1]);
        let actors: &[u8] = if end == [0x7a] { &[0x7f, 0, 0, 1] } else { &[2, 0] };
        forged = forged.column(number::KEY_ACTOR, actors);
        forged.verdict()
    };
    assert_eq!(mark(&[1]), "ok", "after the next element");
    assert_eq!(mark(&[3]), "ok", "after the begin itself");
    assert_eq!(mark(&[0]), "mark-order", "beside its begin");
    assert_eq!(mark(&[0x7a]), "mark-order", "at the head");
    let keyless = Forged::with(|forged| drop(forged.columns.remove(&number::KEY_TEXT)));
    assert_eq!(keyless.verdict(), "operation");
}

#[test]
fn a_change_overwrites_its_own_values() {
    // 200 values of one field, each over the same earlier value of another change.
    let rows: u64 = 200;
    let run = |value: u8| {
        let mut column = Vec::new();
        write_signed(&mut column, rows.cast_signed());
        column.push(value);
        column
    };
    let mut counters = vec![0x7f, 3];
    write_signed(&mut counters, rows.cast_signed() - 1);
    counters.push(0);
    let mut beside = Forged::puts(rows)
        .column(number::PRED_COUNT, &run(1))
        .column(number::PRED_ACTOR, &run(0))
        .column(number::PRED_COUNTER, &counters);
    beside.start_op = 7;
    assert_eq!(beside.verdict(), "own-conflict");
    assert_eq!(beside.clone().column(number::ACTION, &run(0)).verdict(), "own-conflict", "maps");
    assert_eq!(beside.column(number::ACTION, &run(3)).verdict(), "ok", "deletes give no value");
    let keys: Vec<u8> = (0..rows).flat_map(|row| [1, [b'a', b'b'][row as usize % 2]]).collect();
    let mut literal = Vec::new();
    write_signed(&mut literal, -rows.cast_signed());
    let elsewhere = Forged::puts(rows).column(number::KEY_TEXT, &[literal, keys].concat());
    assert_eq!(elsewhere.verdict(), "ok", "what takes bytes is bounded by them");
}

#[test]
fn author_footer_stands_on_the_first_change_only() {
    let footer = |seq, extra: &[u8]| {
        Forged::with(|forged| {
            forged.seq = seq;
            forged.extra = extra.to_vec();
        })
        .verdict()
    };
    assert_eq!(footer(1, &[1, 2, 8, 8]), "ok");
    assert_eq!(footer(2, &[1, 2, 8, 8]), "author");
    assert_eq!(footer(1, &[1, 3, 8, 8]), "author");
    assert_eq!(footer(1, &[1, 1, 8, 8]), "author");
    assert_eq!(footer(1, &[0x81, 0, 1, 8]), "author");
    assert_eq!(footer(2, &[2, 2, 8, 8]), "ok");
}
