//go:build race

package event

// raceDetector says that this test binary has the race detector, which makes a sync.Pool forget at random.
const raceDetector = true
