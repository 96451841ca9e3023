package kafka

import "hash/crc32"

// Partitioner is a usual way in which producers choose the partition of a record that has a key: a hash of the key over
// the number of partitions.
type Partitioner uint8

// The usual partitioners.
const (
	Murmur2         Partitioner = iota // Java, franz-go, kafka-python; murmur2 and murmur2_random of librdkafka
	CRC32                              // consistent and consistent_random of librdkafka, its default
	FNV1a                              // sarama; fnv1a and fnv1a_random of librdkafka
	NumPartitioners                    // their number
)

// String names the hash.
func (p Partitioner) String() string {
	return [...]string{"murmur2", "CRC32", "FNV-1a", "none"}[min(p, NumPartitioners)]
}

// Partition is where the partitioner puts records with the key, which is not empty, in a topic of n partitions.
func (p Partitioner) Partition(key []byte, n int32) int32 {
	switch p {
	case Murmur2:
		return int32(murmur2(key)&0x7fffffff) % n
	case CRC32:
		return int32(crc32.ChecksumIEEE(key) % uint32(n))
	default:
		of := int32(fnv1a(key)) % n // sarama takes the hash as a signed number
		if of < 0 {
			of = -of
		}
		return of
	}
}

func fnv1a(key []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range key {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// murmur2 is the hash of Kafka's Java client.
func murmur2(key []byte) uint32 {
	const m = 0x5bd1e995
	h := 0x9747b28c ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := (uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24) * m
		h = h*m ^ (k^k>>24)*m
	}
	if len(key) > 0 {
		for i, c := range key {
			h ^= uint32(c) << (8 * i)
		}
		h *= m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
