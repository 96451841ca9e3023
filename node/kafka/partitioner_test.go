package kafka

import (
	"fmt"
	"hash/fnv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Where Deckle thinks that producers put a key must be where they put it. Murmur2 is compared with franz-go's own
// partitioner, FNV-1a with its copy of sarama's, and all three with values of other clients: of Java's
// UtilsTest.testMurmur2, and of librdkafka's unittests of crc32 ("this is another string with more length to it ")
// and fnv1a.
func TestPartitionersAreThoseOfClients(t *testing.T) {
	fnv32 := func(b []byte) uint32 { h := fnv.New32a(); _, _ = h.Write(b); return h.Sum32() }
	clients := map[Partitioner]kgo.Partitioner{
		Murmur2: kgo.StickyKeyPartitioner(nil),
		FNV1a:   kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(fnv32)),
	}
	keys := []string{"a", "42", "00000000-0000-4000-8000-00000000002a", "läser@example.com", strings.Repeat("x", 255)}
	for i := range 500 {
		keys = append(keys, fmt.Sprintf("session-%d", i*7919))
	}
	for p, client := range clients {
		topic := client.ForTopic("t")
		for _, n := range []int{1, 2, 3, 6, 12, 64, 1000} {
			for _, key := range keys {
				want := topic.Partition(&kgo.Record{Key: []byte(key)}, n)
				if got := p.Partition([]byte(key), int32(n)); int(got) != want {
					t.Fatalf("%s puts %q of %d partitions into %d, want %d", p, key, n, got, want)
				}
			}
		}
	}
	for key, want := range map[string]int32{ // Java
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string":                       -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2 of %q is %d, want %d", key, got, want)
		}
	}
	if got := CRC32.Partition([]byte("123456789"), 1000); got != 0xcbf43926%1000 { // the check value of CRC-32/IEEE
		t.Errorf("CRC32: partition %d", got)
	}
	if got := fnv1a([]byte("foobar")); got != 0xbf9cf968 { // of the authors' test vectors
		t.Errorf("FNV-1a: %x", got)
	}
}
