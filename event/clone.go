package event

import "strings"

// CloneTexts replaces texts that alias reused memory by copies, in place. It makes one allocation, which lives as long
// as any of the copies.
func CloneTexts(texts []*string) {
	n := 0
	for _, t := range texts {
		n += len(*t)
	}
	var all strings.Builder
	all.Grow(n)
	for _, t := range texts {
		all.WriteString(*t)
	}
	rest := all.String()
	for _, t := range texts {
		*t, rest = rest[:len(*t)], rest[len(*t):]
	}
}
