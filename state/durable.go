package state

import "sync"

// durableIndex follows the flushes of checkpoints: it is the greatest index whose flush is done. It has its own lock,
// so that readers need not wait for Apply.
type durableIndex struct {
	mu      sync.Mutex
	index   uint64
	flushes []flush // oldest first; those that are not known to be done
}

// flush is a checkpoint that is being written to disk.
type flush struct {
	index uint64
	done  <-chan struct{}
}

func (d *durableIndex) reset(index uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index, d.flushes = index, nil
}

func (d *durableIndex) add(f flush) {
	d.get() // forgets the flushes that are done
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushes = append(d.flushes, f)
}

func (d *durableIndex) get() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.flushes) > 0 {
		select {
		case <-d.flushes[0].done: // memtables are flushed in order
			d.index = d.flushes[0].index
			d.flushes = d.flushes[1:]
			continue
		default:
		}
		break
	}
	return d.index
}
