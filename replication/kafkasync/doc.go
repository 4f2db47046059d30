// Package kafkasync brings over what other programs write into a topic of Kafka. It is a replication.Syncer that follows.
//
// All partitions are read, those added later too, without a consumer group: where to begin is for the caller of Sync to say, as a time, and
// brokers keep nothing of it. The records of a partition come in order; those of different partitions in any. Transactions are waited for,
// and records of those that were aborted are left out.
//
// What the topic does not keep for as long as a syncer is away is missed: where records that it was about to read are gone, Sync returns
// an error that says so, once, and goes on with those that are left when it is called again.
//
// How far a syncer is in the middle of a topic tells the time that producers give their records. Where the brokers give it
// (message.timestamp.type=LogAppendTime) that is not told to clients like this one: a syncer that is stopped before it has come to the end of such a topic reads on from
// there as long as the program runs, and else from where it had begun.
//
// Sites exchange their logs as they are, see package replication. What a mirror has written into the topic of a site, for one who is not a
// site, kafkalog.Decode makes events of again.
package kafkasync
