package nodetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ProducePacked writes one batch of n events, each of a session of its own, which zstd packs: each has size bytes, of
// which next to nothing is left in the log. No client makes such a batch from records one by one.
func (b *Broker) ProducePacked(partition int32, n, size int) {
	b.T.Helper()
	ctx := Context(b.T)
	meta := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = new(Topic)
	meta.Topics = append(meta.Topics, t)
	known, err := meta.RequestWith(ctx, b.Out)
	if err != nil {
		b.T.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID = Topic, known.Topics[0].TopicID
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = partition, packed(n, size)
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, b.Out)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		b.T.Fatal(err)
	}
}

// packed is a record batch.
func packed(n, size int) []byte {
	var raw []byte
	for i := range n {
		session := fmt.Sprint("packed-", i)
		event := EventJSON(session, i, "article_view")
		value := append(bytes.TrimSuffix(event, []byte("}")), fmt.Sprintf(`,"page_url":%q}`,
			bytes.Repeat([]byte("x"), size))...)
		r := kmsg.Record{OffsetDelta: int32(i), Key: []byte(session), Value: value}
		body := r.AppendTo(nil)[1:] // without its length, which is 0 yet
		r.Length = int32(len(body))
		raw = r.AppendTo(raw)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err) // of options that do not exist
	}
	now := time.Now().UnixMilli()
	rb := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: 4, LastOffsetDelta: int32(n - 1),
		FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(n), Records: enc.EncodeAll(raw, nil)}
	rb.Length = int32(len(rb.AppendTo(nil)) - 12)
	out := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}
