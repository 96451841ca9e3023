package kafka

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxFetches bounds the fetches that a client has in flight or buffered.
	maxFetches = 4
	// firstInflation is what a source takes for granted before it has read a batch: JSON that zstd or gzip packed.
	firstInflation = 8
	// A batch of fullWeight bytes, inflated, counts at once; smaller ones count by their share of it.
	fullWeight = 1 << 20
	// fewestFetchBytes are asked for however much batches inflate. A broker sends one whole batch in any case.
	fewestFetchBytes = 16 << 10
	// mostPartitionBytes bounds the share of one partition in a fetch.
	mostPartitionBytes = 1 << 20
)

// fetchSize keeps what a source's client holds of inflated fetches within its memory: it measures how much batches
// inflate, and asks for fewer bytes when they inflate more. One batch per fetch is bounded by MaxBatchBytes alone.
type fetchSize struct {
	most, memory int64

	mu        sync.Mutex
	inflation float64         // bytes of inflated batches per byte of a fetch, at least 1
	asked     int64           // per fetch, as the client has been told
	packed    map[int32]int64 // by partition: bytes in the log of the last batch that was not inflated
}

func newFetchSize(most, memory int64) *fetchSize {
	f := &fetchSize{most: most, memory: memory, inflation: firstInflation, packed: map[int32]int64{}}
	f.asked = f.bytes()
	return f
}

// bytes is what one fetch may ask for.
func (f *fetchSize) bytes() int64 {
	return min(max(int64(float64(f.memory)/maxFetches/f.inflation), fewestFetchBytes), f.most)
}

// OnFetchBatchRead implements kgo.HookFetchBatchRead.
func (f *fetchSize) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, partition int32, m kgo.FetchBatchMetrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.NumRecords == 0 {
		if m.CompressionType != 0 {
			f.packed[partition] = int64(m.CompressedBytes)
		}
		return
	}
	by := max(float64(m.UncompressedBytes)/float64(max(m.CompressedBytes, 1)), 1)
	weight := min(float64(m.UncompressedBytes)/fullWeight, 1)
	if by < f.inflation {
		weight /= 8 // slowly down: the next fetch may be as before
	}
	f.inflation += (by - f.inflation) * weight
}

// adapt tells the client what to ask for from now on, if that has changed much.
func (f *fetchSize) adapt(cl *kgo.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := f.bytes()
	if diff := want - f.asked; diff == 0 || max(diff, -diff) < f.asked/8 && want != f.most {
		return
	}
	f.asked = want
	cl.UpdateFetchMaxBytes(int32(want), int32(min(want, mostPartitionBytes)))
}

// unread is how many bytes the partition's last batch that was not inflated has in the log, 0 if there was none.
func (f *fetchSize) unread(partition int32) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.packed[partition]
}
