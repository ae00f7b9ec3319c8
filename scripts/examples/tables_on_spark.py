"""Fit a processor and encode a table on Spark, with Arrow batches: `python tables_on_spark.py [TABLE.parquet]`.

Needs `pip install pyspark` and Java. Each history lies in one partition, in the order of time; every partition learns
from its training rows, the parts are merged as a tree, and the ids are the same as in one pass on one machine.
"""

import datetime
import os
import pickle
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from hf_mmtab import TabBertProcessor

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers run this Python, with its packages
PLAN = {"entity": "account", "time": "at", "fields": {"amount": {"kind": "numeric"}, "gap": {"kind": "time_gap"}}}
path = sys.argv[1] if len(sys.argv) > 1 else "payments.parquet"
if len(sys.argv) == 1:  # a small table to try it on
    rng, start = np.random.default_rng(0), datetime.datetime(2024, 1, 1)
    when = [start + datetime.timedelta(minutes=int(m)) for m in rng.permutation(20_000)]
    pq.write_table(pa.table({"account": rng.integers(0, 50, 20_000), "at": when, "amount": rng.random(20_000)}), path)

spark = SparkSession.builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
rows = spark.read.parquet(path).repartition(4, "account").sortWithinPartitions("account", "at").cache()
micros = "unix_micros(cast(at as timestamp))"
(cut,) = rows.selectExpr(f"percentile_disc(0.7) within group (order by {micros})").first()
processor = TabBertProcessor(PLAN)


def fit(batches):
    statistics = processor.fit_part(pa.Table.from_batches([batch]) for batch in batches)
    yield pa.RecordBatch.from_pydict({"part": [pickle.dumps(statistics.close())]})


def encode(batches):
    for ids in processor.encode_batches(batches):
        yield from ids.cast(pa.schema([(name, pa.int32()) for name in ids.column_names])).to_batches()


parts = rows.where(f"{micros} < {cut}").mapInArrow(fit, "part binary").rdd.map(lambda row: pickle.loads(row.part))
processor.finish(parts.treeReduce(lambda one, later: one.merge(later)))
encoded = rows.mapInArrow(encode, ", ".join(f"`{name}` int" for name in processor.fields))
print(f"{encoded.count():,} rows encoded by processor {processor.fingerprint}")

table = pq.read_table(path).sort_by([("account", "ascending"), ("at", "ascending")])
whole = TabBertProcessor(PLAN).fit(table.filter(pc.less(table["at"].cast(pa.int64()), cut)))
print(f"In one pass on one machine: {whole.fingerprint}")
