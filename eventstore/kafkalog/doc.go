// Package kafkalog copies a log's own events to a Kafka topic and reads them back.
//
//	store ─► Mirror: fence, find the tail, produce ─► topic ─► Reader: the store's Subscription, from the topic
//	                                                    ├────► Link: what another site does not have yet, to replicate it
//	                                                    └────► Audit: topic and store compared record by record
//
// The log is the outbox: the mirror tails it up to durable and writes each event once, in order. Where a site has others, a second
// mirror may write its feed, the topic that has all that its log holds (Options.Feed, feed.go). One partition holds one shard; key,
// value and headers of a record reproduce the canonical frame byte for byte and are described, for those who have a Kafka client and
// not this package, in docs/topic.md.
//
// What the mirror promises:
//   - Nothing is missing, nothing is twice, nothing is out of order, whatever crashes: mirror, broker or both.
//   - A second mirror of the same partition takes over; the first notices and stops with ErrFenced.
//   - A topic that is not a copy of this log is never continued: ErrForked and ErrBehind stop the mirror and say where.
//   - A topic that lost its end, or was made anew, is filled again from the log.
//   - A feed begins anew with each life of the log.
//
// It does not promise that Kafka keeps what it acknowledged: Kafka is transport and integration surface, not truth.
//
// kafka-go's Writer cannot do this (it has no idempotent producer, and sends later batches after an earlier one failed),
// so batches are encoded here and sent by Client.RawProduce under a producer id whose epoch fences older mirrors.
package kafkalog
