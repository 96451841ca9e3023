package state

import (
	"slices"

	"deckle/event"
)

// Given returns the offsets of the plan's ranges whose raw events an operator has given up, ascending by
// (partition, from).
func (p *Plan) Given() (out []event.Range) {
	for _, r := range p.Ranges() {
		for _, g := range p.EventGaps {
			if g.Partition != r.Partition {
				continue
			}
			c := r
			if c.From, c.To = max(r.From, g.From), min(r.To, g.To); c.From < c.To {
				// gofail: var bugGapTakesRange struct{}
				// c = r
				out = append(out, c)
			}
		}
	}
	return out
}

// Fetchable returns the ranges of the plan without what Given returns, ascending by (partition, from).
func (p *Plan) Fetchable() (out []event.Range) {
	given := p.Given()
	for _, r := range p.Ranges() {
		out = append(out, cutOut(r, given)...)
	}
	return out
}

// Rows returns how many rows of the table events the plan has, as its epochs count them, and how many of them there
// are at least: those that may lie in what Given returns may be missing.
func (p *Plan) Rows() (least, most int64) {
	for i := range p.Epochs {
		most += p.Epochs[i].Events
	}
	given := p.Given()
	if len(given) == 0 {
		return most, most
	}
	least = most
	for _, g := range given {
		least -= g.To - g.From
	}
	for _, l := range p.LeftOut() {
		if slices.ContainsFunc(given, func(g event.Range) bool {
			return g.Partition == l.Partition && g.From <= l.Offset && l.Offset < g.To
		}) {
			least++
		}
	}
	return max(least, 0), most
}
