package web

import (
	"encoding/json"
	"reflect"
	"testing"

	"deckle/schema"
)

// TestMeasuresAreThoseOfTheSchema: the figures have every measure of the rollups under its name, and a list for every
// dimension.
func TestMeasuresAreThoseOfTheSchema(t *testing.T) {
	var row schema.RollupRow
	for i := range schema.Measures {
		*schema.Measures[i].At(&row) = int64(i + 1)
	}
	var sums Measures
	sums.add(&row)
	text, err := json.Marshal(&sums)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]float64{}
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	for i := range schema.Measures {
		m := &schema.Measures[i]
		if shown[m.Name] != float64(i+1) {
			t.Errorf("%s is %v, want %d: analytics.go", m.Name, shown[m.Name], i+1)
		}
		if _, ok := shown[m.View]; m.Average && !ok {
			t.Errorf("%s is missing: analytics.go", m.View)
		}
	}
	dims := 0
	for i := range schema.Rollups {
		dims += len(schema.Rollups[i].Dims)
	}
	// All but the total, and all brands once more, which are not shown.
	if lists := reflect.TypeFor[Figures]().NumField() - 2; lists != dims || len((&tally{}).groups) != dims {
		t.Errorf("%d lists of figures, the rollups have %d dimensions: analytics.go", lists, dims)
	}
}
