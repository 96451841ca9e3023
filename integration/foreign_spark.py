"""Runs SQL on a Delta table, one statement a line of standard input; prints the rows of each as a line of JSON.

usage: python foreign_spark.py JARS                   an error is printed as {"error": text}
"""

import json
import sys

import deltaspark

spark, _ = deltaspark.start(sys.argv[1])
print("RESULT " + json.dumps(spark.version), flush=True)
for line in sys.stdin:
    try:
        out = [[str(v) if v is not None else None for v in r] for r in spark.sql(line).collect()]
    except Exception as e:
        out = {"error": str(e)[:2000]}
    print("RESULT " + json.dumps(out), flush=True)
