"""Produces files of "key TAB value" lines with librdkafka: brokers topic records-per-second codec=file..."""

import sys
import time

from confluent_kafka import Producer

brokers, topic, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
failed = []


def delivered(err, _):
    if err is not None:
        failed.append(err)


streams = []
for stream in sys.argv[4:]:
    codec, path = stream.split("=", 1)
    # One of them may repeat what it has sent, as producers do that are not idempotent.
    producer = Producer({
        "bootstrap.servers": brokers, "acks": "all", "compression.type": codec, "linger.ms": 50,
        "socket.timeout.ms": 5000, "request.timeout.ms": 4000, "message.max.bytes": 2000000,
        "enable.idempotence": codec != "gzip", "retries": 1000000,
    })
    with open(path, encoding="utf-8") as lines:
        streams.append((producer, [line.rstrip("\n").split("\t", 1) for line in lines]))

start, sent = time.monotonic(), 0
while any(sent < len(lines) for _, lines in streams):
    for producer, lines in streams:
        if sent < len(lines):
            key, value = lines[sent]
            producer.produce(topic, value, key, on_delivery=delivered)
        producer.poll(0)
    sent += 1
    time.sleep(max(0.0, start + sent / rate - time.monotonic()))
for producer, _ in streams:
    if producer.flush(120) > 0:
        failed.append("not everything was delivered in time")
if failed:
    sys.exit(str(failed[0]))
