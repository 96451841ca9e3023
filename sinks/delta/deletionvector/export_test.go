package deletionvector

// Decode is decode.
var Decode = decode

// Inline is inline.
func (d *Descriptor) Inline() ([]byte, error) { return d.inline() }
