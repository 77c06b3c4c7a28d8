/**
 * Types of QEMU commands, from QEMU 7.2: made by scripts/qemu-types.mjs, not by hand. Other versions have members more or fewer.
 */

export type NoMembers = Readonly<Record<string, never>>

/** What each command takes and returns. */
export interface QemuCommands {
  readonly 'block-commit': { readonly arguments: BlockCommitArguments; readonly returns: NoMembers }
  readonly 'block-export-add': { readonly arguments: BlockExportAddArguments; readonly returns: NoMembers }
  readonly 'block-export-del': { readonly arguments: BlockExportDelArguments; readonly returns: NoMembers }
  readonly 'block-job-cancel': { readonly arguments: BlockJobCancelArguments; readonly returns: NoMembers }
  readonly 'block-job-set-speed': { readonly arguments: BlockJobSetSpeedArguments; readonly returns: NoMembers }
  readonly 'block-stream': { readonly arguments: BlockStreamArguments; readonly returns: NoMembers }
  readonly 'blockdev-add': { readonly arguments: BlockdevAddArguments; readonly returns: NoMembers }
  readonly 'blockdev-backup': { readonly arguments: BlockdevBackupArguments; readonly returns: NoMembers }
  readonly 'blockdev-create': { readonly arguments: BlockdevCreateArguments; readonly returns: NoMembers }
  readonly 'blockdev-del': { readonly arguments: BlockdevDelArguments; readonly returns: NoMembers }
  readonly 'blockdev-mirror': { readonly arguments: BlockdevMirrorArguments; readonly returns: NoMembers }
  readonly 'blockdev-reopen': { readonly arguments: BlockdevReopenArguments; readonly returns: NoMembers }
  readonly cont: { readonly arguments: NoMembers; readonly returns: NoMembers }
  readonly device_del: { readonly arguments: DeviceDelArguments; readonly returns: NoMembers }
  readonly 'human-monitor-command': { readonly arguments: HumanMonitorCommandArguments; readonly returns: string }
  readonly 'job-cancel': { readonly arguments: JobCancelArguments; readonly returns: NoMembers }
  readonly 'job-complete': { readonly arguments: JobCompleteArguments; readonly returns: NoMembers }
  readonly 'job-dismiss': { readonly arguments: JobDismissArguments; readonly returns: NoMembers }
  readonly 'nbd-server-start': { readonly arguments: NbdServerStartArguments; readonly returns: NoMembers }
  readonly 'nbd-server-stop': { readonly arguments: NoMembers; readonly returns: NoMembers }
  readonly 'qom-get': { readonly arguments: QomGetArguments; readonly returns: unknown }
  readonly 'qom-list': { readonly arguments: QomListArguments; readonly returns: readonly QomListResult[] }
  readonly 'qom-set': { readonly arguments: QomSetArguments; readonly returns: NoMembers }
  readonly 'query-block': { readonly arguments: NoMembers; readonly returns: readonly QueryBlockResult[] }
  readonly 'query-block-jobs': { readonly arguments: NoMembers; readonly returns: readonly QueryBlockJobsResult[] }
  readonly 'query-blockstats': {
    readonly arguments: QueryBlockstatsArguments
    readonly returns: readonly QueryBlockstatsResult[]
  }
  readonly 'query-commands': { readonly arguments: NoMembers; readonly returns: readonly QueryCommandsResult[] }
  readonly 'query-jobs': { readonly arguments: NoMembers; readonly returns: readonly QueryJobsResult[] }
  readonly 'query-name': { readonly arguments: NoMembers; readonly returns: QueryNameResult }
  readonly 'query-named-block-nodes': {
    readonly arguments: QueryNamedBlockNodesArguments
    readonly returns: readonly QueryBlockResultInserted[]
  }
  readonly 'query-status': { readonly arguments: NoMembers; readonly returns: QueryStatusResult }
  readonly 'query-version': { readonly arguments: NoMembers; readonly returns: QueryVersionResult }
  readonly 'query-yank': { readonly arguments: NoMembers; readonly returns: readonly QueryYankResult[] }
  readonly quit: { readonly arguments: NoMembers; readonly returns: NoMembers }
  readonly stop: { readonly arguments: NoMembers; readonly returns: NoMembers }
  readonly system_powerdown: { readonly arguments: NoMembers; readonly returns: NoMembers }
  readonly system_reset: { readonly arguments: NoMembers; readonly returns: NoMembers }
  readonly yank: { readonly arguments: YankArguments; readonly returns: NoMembers }
}

export type BlockCommitArguments = {
  readonly 'job-id'?: string
  readonly device: string
  readonly 'base-node'?: string
  readonly base?: string
  readonly 'top-node'?: string
  readonly top?: string
  readonly 'backing-file'?: string
  readonly speed?: number
  readonly 'on-error'?: BlockCommitArgumentsOnError
  readonly 'filter-node-name'?: string
  readonly 'auto-finalize'?: boolean
  readonly 'auto-dismiss'?: boolean
}

export type BlockCommitArgumentsOnError = 'report' | 'ignore' | 'enospc' | 'stop' | 'auto'

export type BlockExportAddArguments = {
  readonly id: string
  readonly 'fixed-iothread'?: boolean
  readonly iothread?: string
  readonly 'node-name': string
  readonly writable?: boolean
  readonly writethrough?: boolean
} & (
  | ({ readonly type: 'nbd' } & BlockExportAddArgumentsNbd)
  | ({ readonly type: 'vhost-user-blk' } & BlockExportAddArgumentsVhostUserBlk)
  | ({ readonly type: 'fuse' } & BlockExportAddArgumentsFuse)
  | ({ readonly type: 'vduse-blk' } & BlockExportAddArgumentsVduseBlk)
)

export type BlockExportAddArgumentsNbd = {
  readonly name?: string
  readonly description?: string
  readonly bitmaps?: readonly (string | BlockExportAddArgumentsNbdBitmaps)[]
  readonly 'allocation-depth'?: boolean
}

export type BlockExportAddArgumentsNbdBitmaps = { readonly node: string; readonly name: string }

export type BlockExportAddArgumentsVhostUserBlk = {
  readonly addr: BlockExportAddArgumentsVhostUserBlkAddr
  readonly 'logical-block-size'?: number
  readonly 'num-queues'?: number
}

export type BlockExportAddArgumentsVhostUserBlkAddr = {} & (
  | ({ readonly type: 'inet' } & BlockExportAddArgumentsVhostUserBlkAddrInet)
  | ({ readonly type: 'unix' } & BlockExportAddArgumentsVhostUserBlkAddrUnix)
  | ({ readonly type: 'vsock' } & BlockExportAddArgumentsVhostUserBlkAddrVsock)
  | ({ readonly type: 'fd' } & BlockExportAddArgumentsVhostUserBlkAddrFd)
)

export type BlockExportAddArgumentsVhostUserBlkAddrInet = {
  readonly host: string
  readonly port: string
  readonly numeric?: boolean
  readonly to?: number
  readonly ipv4?: boolean
  readonly ipv6?: boolean
  readonly 'keep-alive'?: boolean
  readonly mptcp?: boolean
}

export type BlockExportAddArgumentsVhostUserBlkAddrUnix = {
  readonly path: string
  readonly abstract?: boolean
  readonly tight?: boolean
}

export type BlockExportAddArgumentsVhostUserBlkAddrVsock = { readonly cid: string; readonly port: string }

export type BlockExportAddArgumentsVhostUserBlkAddrFd = { readonly str: string }

export type BlockExportAddArgumentsFuse = {
  readonly mountpoint: string
  readonly growable?: boolean
  readonly 'allow-other'?: 'off' | 'on' | 'auto'
}

export type BlockExportAddArgumentsVduseBlk = {
  readonly name: string
  readonly 'num-queues'?: number
  readonly 'queue-size'?: number
  readonly 'logical-block-size'?: number
  readonly serial?: string
}

export type BlockExportDelArguments = { readonly id: string; readonly mode?: 'safe' | 'hard' }

export type BlockJobCancelArguments = { readonly device: string; readonly force?: boolean }

export type BlockJobSetSpeedArguments = { readonly device: string; readonly speed: number }

export type BlockStreamArguments = {
  readonly 'job-id'?: string
  readonly device: string
  readonly base?: string
  readonly 'base-node'?: string
  readonly 'backing-file'?: string
  readonly bottom?: string
  readonly speed?: number
  readonly 'on-error'?: BlockCommitArgumentsOnError
  readonly 'filter-node-name'?: string
  readonly 'auto-finalize'?: boolean
  readonly 'auto-dismiss'?: boolean
}

export type BlockdevAddArguments = {
  readonly 'node-name'?: string
  readonly discard?: 'ignore' | 'unmap'
  readonly cache?: BlockdevAddArgumentsCache
  readonly 'read-only'?: boolean
  readonly 'auto-read-only'?: boolean
  readonly 'force-share'?: boolean
  readonly 'detect-zeroes'?: 'off' | 'on' | 'unmap'
} & (
  | ({ readonly driver: 'blkdebug' } & BlockdevAddArgumentsBlkdebug)
  | ({ readonly driver: 'blklogwrites' } & BlockdevAddArgumentsBlklogwrites)
  | ({ readonly driver: 'blkreplay' } & BlockdevAddArgumentsBlkreplay)
  | ({ readonly driver: 'blkverify' } & BlockdevAddArgumentsBlkverify)
  | ({
      readonly driver: 'bochs' | 'cloop' | 'compress' | 'dmg' | 'snapshot-access' | 'parallels' | 'vdi' | 'vhdx' | 'vpc'
    } & BlockdevAddArgumentsBochs)
  | ({ readonly driver: 'copy-before-write' } & BlockdevAddArgumentsCopyBeforeWrite)
  | ({ readonly driver: 'copy-on-read' } & BlockdevAddArgumentsCopyOnRead)
  | ({ readonly driver: 'file' | 'host_cdrom' | 'host_device' } & BlockdevAddArgumentsFile)
  | ({ readonly driver: 'ftp' } & BlockdevAddArgumentsFtp)
  | ({ readonly driver: 'ftps' } & BlockdevAddArgumentsFtps)
  | ({ readonly driver: 'gluster' } & BlockdevAddArgumentsGluster)
  | ({ readonly driver: 'http' } & BlockdevAddArgumentsHttp)
  | ({ readonly driver: 'https' } & BlockdevAddArgumentsHttps)
  | ({ readonly driver: 'iscsi' } & BlockdevAddArgumentsIscsi)
  | ({ readonly driver: 'luks' } & BlockdevAddArgumentsLuks)
  | ({ readonly driver: 'nbd' } & BlockdevAddArgumentsNbd)
  | ({ readonly driver: 'nfs' } & BlockdevAddArgumentsNfs)
  | ({ readonly driver: 'null-aio' | 'null-co' } & BlockdevAddArgumentsNullAio)
  | ({ readonly driver: 'nvme' } & BlockdevAddArgumentsNvme)
  | ({ readonly driver: 'preallocate' } & BlockdevAddArgumentsPreallocate)
  | ({ readonly driver: 'qcow' } & BlockdevAddArgumentsQcow)
  | ({ readonly driver: 'qcow2' } & BlockdevAddArgumentsQcow2)
  | ({ readonly driver: 'qed' | 'vmdk' } & BlockdevAddArgumentsQed)
  | ({ readonly driver: 'quorum' } & BlockdevAddArgumentsQuorum)
  | ({ readonly driver: 'raw' } & BlockdevAddArgumentsRaw)
  | ({ readonly driver: 'rbd' } & BlockdevAddArgumentsRbd)
  | ({ readonly driver: 'replication' } & BlockdevAddArgumentsReplication)
  | ({ readonly driver: 'ssh' } & BlockdevAddArgumentsSsh)
  | ({ readonly driver: 'throttle' } & BlockdevAddArgumentsThrottle)
  | ({ readonly driver: 'vvfat' } & BlockdevAddArgumentsVvfat)
)

export type BlockdevAddArgumentsCache = { readonly direct?: boolean; readonly 'no-flush'?: boolean }

export type BlockdevAddArgumentsBlkdebug = {
  readonly image: BlockdevAddArguments | string
  readonly config?: string
  readonly align?: number
  readonly 'max-transfer'?: number
  readonly 'opt-write-zero'?: number
  readonly 'max-write-zero'?: number
  readonly 'opt-discard'?: number
  readonly 'max-discard'?: number
  readonly 'inject-error'?: readonly BlockdevAddArgumentsBlkdebugInjectError[]
  readonly 'set-state'?: readonly BlockdevAddArgumentsBlkdebugSetState[]
  readonly 'take-child-perms'?: readonly ('consistent-read' | 'write' | 'write-unchanged' | 'resize')[]
  readonly 'unshare-child-perms'?: readonly ('consistent-read' | 'write' | 'write-unchanged' | 'resize')[]
}

export type BlockdevAddArgumentsBlkdebugInjectError = {
  readonly event: BlockdevAddArgumentsBlkdebugInjectErrorEvent
  readonly state?: number
  readonly iotype?: BlockdevAddArgumentsBlkdebugInjectErrorIotype
  readonly errno?: number
  readonly sector?: number
  readonly once?: boolean
  readonly immediately?: boolean
}

export type BlockdevAddArgumentsBlkdebugInjectErrorEvent =
  | 'l1_update'
  | 'l1_grow_alloc_table'
  | 'l1_grow_write_table'
  | 'l1_grow_activate_table'
  | 'l2_load'
  | 'l2_update'
  | 'l2_update_compressed'
  | 'l2_alloc_cow_read'
  | 'l2_alloc_write'
  | 'read_aio'
  | 'read_backing_aio'
  | 'read_compressed'
  | 'write_aio'
  | 'write_compressed'
  | 'vmstate_load'
  | 'vmstate_save'
  | 'cow_read'
  | 'cow_write'
  | 'reftable_load'
  | 'reftable_grow'
  | 'reftable_update'
  | 'refblock_load'
  | 'refblock_update'
  | 'refblock_update_part'
  | 'refblock_alloc'
  | 'refblock_alloc_hookup'
  | 'refblock_alloc_write'
  | 'refblock_alloc_write_blocks'
  | 'refblock_alloc_write_table'
  | 'refblock_alloc_switch_table'
  | 'cluster_alloc'
  | 'cluster_alloc_bytes'
  | 'cluster_free'
  | 'flush_to_os'
  | 'flush_to_disk'
  | 'pwritev_rmw_head'
  | 'pwritev_rmw_after_head'
  | 'pwritev_rmw_tail'
  | 'pwritev_rmw_after_tail'
  | 'pwritev'
  | 'pwritev_zero'
  | 'pwritev_done'
  | 'empty_image_prepare'
  | 'l1_shrink_write_table'
  | 'l1_shrink_free_l2_clusters'
  | 'cor_write'
  | 'cluster_alloc_space'
  | 'none'

export type BlockdevAddArgumentsBlkdebugInjectErrorIotype =
  'read' | 'write' | 'write-zeroes' | 'discard' | 'flush' | 'block-status'

export type BlockdevAddArgumentsBlkdebugSetState = {
  readonly event: BlockdevAddArgumentsBlkdebugInjectErrorEvent
  readonly state?: number
  readonly new_state: number
}

export type BlockdevAddArgumentsBlklogwrites = {
  readonly file: BlockdevAddArguments | string
  readonly log: BlockdevAddArguments | string
  readonly 'log-sector-size'?: number
  readonly 'log-append'?: boolean
  readonly 'log-super-update-interval'?: number
}

export type BlockdevAddArgumentsBlkreplay = { readonly image: BlockdevAddArguments | string }

export type BlockdevAddArgumentsBlkverify = {
  readonly test: BlockdevAddArguments | string
  readonly raw: BlockdevAddArguments | string
}

export type BlockdevAddArgumentsBochs = { readonly file: BlockdevAddArguments | string }

export type BlockdevAddArgumentsCopyBeforeWrite = {
  readonly file: BlockdevAddArguments | string
  readonly target: BlockdevAddArguments | string
  readonly bitmap?: BlockExportAddArgumentsNbdBitmaps
  readonly 'on-cbw-error'?: 'break-guest-write' | 'break-snapshot'
  readonly 'cbw-timeout'?: number
}

export type BlockdevAddArgumentsCopyOnRead = { readonly file: BlockdevAddArguments | string; readonly bottom?: string }

export type BlockdevAddArgumentsFile = {
  readonly filename: string
  readonly 'pr-manager'?: string
  readonly locking?: 'auto' | 'on' | 'off'
  readonly aio?: 'threads' | 'native' | 'io_uring'
  readonly 'aio-max-batch'?: number
  readonly 'drop-cache'?: boolean
  readonly 'x-check-cache-dropped'?: boolean
}

export type BlockdevAddArgumentsFtp = {
  readonly url: string
  readonly readahead?: number
  readonly timeout?: number
  readonly username?: string
  readonly 'password-secret'?: string
  readonly 'proxy-username'?: string
  readonly 'proxy-password-secret'?: string
}

export type BlockdevAddArgumentsFtps = {
  readonly url: string
  readonly readahead?: number
  readonly timeout?: number
  readonly username?: string
  readonly 'password-secret'?: string
  readonly 'proxy-username'?: string
  readonly 'proxy-password-secret'?: string
  readonly sslverify?: boolean
}

export type BlockdevAddArgumentsGluster = {
  readonly volume: string
  readonly path: string
  readonly server: readonly BlockExportAddArgumentsVhostUserBlkAddr[]
  readonly debug?: number
  readonly logfile?: string
}

export type BlockdevAddArgumentsHttp = {
  readonly url: string
  readonly readahead?: number
  readonly timeout?: number
  readonly username?: string
  readonly 'password-secret'?: string
  readonly 'proxy-username'?: string
  readonly 'proxy-password-secret'?: string
  readonly cookie?: string
  readonly 'cookie-secret'?: string
}

export type BlockdevAddArgumentsHttps = {
  readonly url: string
  readonly readahead?: number
  readonly timeout?: number
  readonly username?: string
  readonly 'password-secret'?: string
  readonly 'proxy-username'?: string
  readonly 'proxy-password-secret'?: string
  readonly cookie?: string
  readonly sslverify?: boolean
  readonly 'cookie-secret'?: string
}

export type BlockdevAddArgumentsIscsi = {
  readonly transport: 'tcp' | 'iser'
  readonly portal: string
  readonly target: string
  readonly lun?: number
  readonly user?: string
  readonly 'password-secret'?: string
  readonly 'initiator-name'?: string
  readonly 'header-digest'?: 'crc32c' | 'none' | 'crc32c-none' | 'none-crc32c'
  readonly timeout?: number
}

export type BlockdevAddArgumentsLuks = { readonly file: BlockdevAddArguments | string; readonly 'key-secret'?: string }

export type BlockdevAddArgumentsNbd = {
  readonly server: BlockExportAddArgumentsVhostUserBlkAddr
  readonly export?: string
  readonly 'tls-creds'?: string
  readonly 'tls-hostname'?: string
  readonly 'x-dirty-bitmap'?: string
  readonly 'reconnect-delay'?: number
  readonly 'open-timeout'?: number
}

export type BlockdevAddArgumentsNfs = {
  readonly server: BlockdevAddArgumentsNfsServer
  readonly path: string
  readonly user?: number
  readonly group?: number
  readonly 'tcp-syn-count'?: number
  readonly 'readahead-size'?: number
  readonly 'page-cache-size'?: number
  readonly debug?: number
}

export type BlockdevAddArgumentsNfsServer = { readonly type: 'inet'; readonly host: string }

export type BlockdevAddArgumentsNullAio = {
  readonly size?: number
  readonly 'latency-ns'?: number
  readonly 'read-zeroes'?: boolean
}

export type BlockdevAddArgumentsNvme = { readonly device: string; readonly namespace: number }

export type BlockdevAddArgumentsPreallocate = {
  readonly file: BlockdevAddArguments | string
  readonly 'prealloc-align'?: number
  readonly 'prealloc-size'?: number
}

export type BlockdevAddArgumentsQcow = {
  readonly file: BlockdevAddArguments | string
  readonly backing?: BlockdevAddArguments | string | null
  readonly encrypt?: BlockdevAddArgumentsQcowEncrypt
}

export type BlockdevAddArgumentsQcowEncrypt = {} & ({ readonly format: 'aes' } & BlockdevAddArgumentsQcowEncryptAes)

export type BlockdevAddArgumentsQcowEncryptAes = { readonly 'key-secret'?: string }

export type BlockdevAddArgumentsQcow2 = {
  readonly file: BlockdevAddArguments | string
  readonly backing?: BlockdevAddArguments | string | null
  readonly 'lazy-refcounts'?: boolean
  readonly 'pass-discard-request'?: boolean
  readonly 'pass-discard-snapshot'?: boolean
  readonly 'pass-discard-other'?: boolean
  readonly 'overlap-check'?: BlockdevAddArgumentsQcow2OverlapCheck | 'none' | 'constant' | 'cached' | 'all'
  readonly 'cache-size'?: number
  readonly 'l2-cache-size'?: number
  readonly 'l2-cache-entry-size'?: number
  readonly 'refcount-cache-size'?: number
  readonly 'cache-clean-interval'?: number
  readonly encrypt?: BlockdevAddArgumentsQcow2Encrypt
  readonly 'data-file'?: BlockdevAddArguments | string
}

export type BlockdevAddArgumentsQcow2OverlapCheck = {
  readonly template?: 'none' | 'constant' | 'cached' | 'all'
  readonly 'main-header'?: boolean
  readonly 'active-l1'?: boolean
  readonly 'active-l2'?: boolean
  readonly 'refcount-table'?: boolean
  readonly 'refcount-block'?: boolean
  readonly 'snapshot-table'?: boolean
  readonly 'inactive-l1'?: boolean
  readonly 'inactive-l2'?: boolean
  readonly 'bitmap-directory'?: boolean
}

export type BlockdevAddArgumentsQcow2Encrypt = {} & (
  | ({ readonly format: 'aes' } & BlockdevAddArgumentsQcowEncryptAes)
  | ({ readonly format: 'luks' } & BlockdevAddArgumentsQcow2EncryptLuks)
)

export type BlockdevAddArgumentsQcow2EncryptLuks = { readonly 'key-secret'?: string }

export type BlockdevAddArgumentsQed = {
  readonly file: BlockdevAddArguments | string
  readonly backing?: BlockdevAddArguments | string | null
}

export type BlockdevAddArgumentsQuorum = {
  readonly blkverify?: boolean
  readonly children: readonly (BlockdevAddArguments | string)[]
  readonly 'vote-threshold': number
  readonly 'rewrite-corrupted'?: boolean
  readonly 'read-pattern'?: 'quorum' | 'fifo'
}

export type BlockdevAddArgumentsRaw = {
  readonly file: BlockdevAddArguments | string
  readonly offset?: number
  readonly size?: number
}

export type BlockdevAddArgumentsRbd = {
  readonly pool: string
  readonly namespace?: string
  readonly image: string
  readonly conf?: string
  readonly snapshot?: string
  readonly encrypt?: BlockdevAddArgumentsRbdEncrypt
  readonly user?: string
  readonly 'auth-client-required'?: readonly ('cephx' | 'none')[]
  readonly 'key-secret'?: string
  readonly server?: readonly BlockdevAddArgumentsRbdServer[]
}

export type BlockdevAddArgumentsRbdEncrypt = {} & (
  | ({ readonly format: 'luks' } & BlockdevAddArgumentsRbdEncryptLuks)
  | ({ readonly format: 'luks2' } & BlockdevAddArgumentsRbdEncryptLuks2)
)

export type BlockdevAddArgumentsRbdEncryptLuks = { readonly 'key-secret': string }

export type BlockdevAddArgumentsRbdEncryptLuks2 = { readonly 'key-secret': string }

export type BlockdevAddArgumentsRbdServer = { readonly host: string; readonly port: string }

export type BlockdevAddArgumentsReplication = {
  readonly file: BlockdevAddArguments | string
  readonly mode: 'primary' | 'secondary'
  readonly 'top-id'?: string
}

export type BlockdevAddArgumentsSsh = {
  readonly server: BlockExportAddArgumentsVhostUserBlkAddrInet
  readonly path: string
  readonly user?: string
  readonly 'host-key-check'?: BlockdevAddArgumentsSshHostKeyCheck
}

export type BlockdevAddArgumentsSshHostKeyCheck = {} & (
  { readonly mode: 'none' | 'known_hosts' } | ({ readonly mode: 'hash' } & BlockdevAddArgumentsSshHostKeyCheckHash)
)

export type BlockdevAddArgumentsSshHostKeyCheckHash = {
  readonly type: 'md5' | 'sha1' | 'sha256'
  readonly hash: string
}

export type BlockdevAddArgumentsThrottle = {
  readonly 'throttle-group': string
  readonly file: BlockdevAddArguments | string
}

export type BlockdevAddArgumentsVvfat = {
  readonly dir: string
  readonly 'fat-type'?: number
  readonly floppy?: boolean
  readonly label?: string
  readonly rw?: boolean
}

export type BlockdevBackupArguments = {
  readonly 'job-id'?: string
  readonly device: string
  readonly sync: BlockdevBackupArgumentsSync
  readonly speed?: number
  readonly bitmap?: string
  readonly 'bitmap-mode'?: 'on-success' | 'never' | 'always'
  readonly compress?: boolean
  readonly 'on-source-error'?: BlockCommitArgumentsOnError
  readonly 'on-target-error'?: BlockCommitArgumentsOnError
  readonly 'auto-finalize'?: boolean
  readonly 'auto-dismiss'?: boolean
  readonly 'filter-node-name'?: string
  readonly 'x-perf'?: BlockdevBackupArgumentsXPerf
  readonly target: string
}

export type BlockdevBackupArgumentsSync = 'top' | 'full' | 'none' | 'incremental' | 'bitmap'

export type BlockdevBackupArgumentsXPerf = {
  readonly 'use-copy-range'?: boolean
  readonly 'max-workers'?: number
  readonly 'max-chunk'?: number
}

export type BlockdevCreateArguments = { readonly 'job-id': string; readonly options: BlockdevCreateArgumentsOptions }

export type BlockdevCreateArgumentsOptions = {} & (
  | {
      readonly driver:
        | 'blkdebug'
        | 'blklogwrites'
        | 'blkreplay'
        | 'blkverify'
        | 'bochs'
        | 'cloop'
        | 'compress'
        | 'copy-before-write'
        | 'copy-on-read'
        | 'dmg'
        | 'snapshot-access'
        | 'ftp'
        | 'ftps'
        | 'host_cdrom'
        | 'host_device'
        | 'http'
        | 'https'
        | 'iscsi'
        | 'nbd'
        | 'null-aio'
        | 'null-co'
        | 'nvme'
        | 'preallocate'
        | 'quorum'
        | 'raw'
        | 'replication'
        | 'throttle'
        | 'vvfat'
    }
  | ({ readonly driver: 'file' } & BlockdevCreateArgumentsOptionsFile)
  | ({ readonly driver: 'gluster' } & BlockdevCreateArgumentsOptionsGluster)
  | ({ readonly driver: 'luks' } & BlockdevCreateArgumentsOptionsLuks)
  | ({ readonly driver: 'nfs' } & BlockdevCreateArgumentsOptionsNfs)
  | ({ readonly driver: 'parallels' } & BlockdevCreateArgumentsOptionsParallels)
  | ({ readonly driver: 'qcow' } & BlockdevCreateArgumentsOptionsQcow)
  | ({ readonly driver: 'qcow2' } & BlockdevCreateArgumentsOptionsQcow2)
  | ({ readonly driver: 'qed' } & BlockdevCreateArgumentsOptionsQed)
  | ({ readonly driver: 'rbd' } & BlockdevCreateArgumentsOptionsRbd)
  | ({ readonly driver: 'ssh' } & BlockdevCreateArgumentsOptionsSsh)
  | ({ readonly driver: 'vdi' } & BlockdevCreateArgumentsOptionsVdi)
  | ({ readonly driver: 'vhdx' } & BlockdevCreateArgumentsOptionsVhdx)
  | ({ readonly driver: 'vmdk' } & BlockdevCreateArgumentsOptionsVmdk)
  | ({ readonly driver: 'vpc' } & BlockdevCreateArgumentsOptionsVpc)
)

export type BlockdevCreateArgumentsOptionsFile = {
  readonly filename: string
  readonly size: number
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full'
  readonly nocow?: boolean
  readonly 'extent-size-hint'?: number
}

export type BlockdevCreateArgumentsOptionsGluster = {
  readonly location: BlockdevAddArgumentsGluster
  readonly size: number
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full'
}

export type BlockdevCreateArgumentsOptionsLuks = {
  readonly 'key-secret'?: string
  readonly 'cipher-alg'?: BlockdevCreateArgumentsOptionsLuksCipherAlg
  readonly 'cipher-mode'?: 'ecb' | 'cbc' | 'xts' | 'ctr'
  readonly 'ivgen-alg'?: 'plain' | 'plain64' | 'essiv'
  readonly 'ivgen-hash-alg'?: BlockdevCreateArgumentsOptionsLuksIvgenHashAlg
  readonly 'hash-alg'?: BlockdevCreateArgumentsOptionsLuksIvgenHashAlg
  readonly 'iter-time'?: number
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full'
}

export type BlockdevCreateArgumentsOptionsLuksCipherAlg =
  | 'aes-128'
  | 'aes-192'
  | 'aes-256'
  | 'des'
  | '3des'
  | 'cast5-128'
  | 'serpent-128'
  | 'serpent-192'
  | 'serpent-256'
  | 'twofish-128'
  | 'twofish-192'
  | 'twofish-256'

export type BlockdevCreateArgumentsOptionsLuksIvgenHashAlg =
  'md5' | 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512' | 'ripemd160'

export type BlockdevCreateArgumentsOptionsNfs = { readonly location: BlockdevAddArgumentsNfs; readonly size: number }

export type BlockdevCreateArgumentsOptionsParallels = {
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly 'cluster-size'?: number
}

export type BlockdevCreateArgumentsOptionsQcow = {
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly 'backing-file'?: string
  readonly encrypt?: BlockdevCreateArgumentsOptionsQcowEncrypt
}

export type BlockdevCreateArgumentsOptionsQcowEncrypt = {} & (
  | ({ readonly format: 'qcow' } & BlockdevAddArgumentsQcowEncryptAes)
  | ({ readonly format: 'luks' } & BlockdevCreateArgumentsOptionsQcowEncryptLuks)
)

export type BlockdevCreateArgumentsOptionsQcowEncryptLuks = {
  readonly 'key-secret'?: string
  readonly 'cipher-alg'?: BlockdevCreateArgumentsOptionsLuksCipherAlg
  readonly 'cipher-mode'?: 'ecb' | 'cbc' | 'xts' | 'ctr'
  readonly 'ivgen-alg'?: 'plain' | 'plain64' | 'essiv'
  readonly 'ivgen-hash-alg'?: BlockdevCreateArgumentsOptionsLuksIvgenHashAlg
  readonly 'hash-alg'?: BlockdevCreateArgumentsOptionsLuksIvgenHashAlg
  readonly 'iter-time'?: number
}

export type BlockdevCreateArgumentsOptionsQcow2 = {
  readonly file: BlockdevAddArguments | string
  readonly 'data-file'?: BlockdevAddArguments | string
  readonly 'data-file-raw'?: boolean
  readonly 'extended-l2'?: boolean
  readonly size: number
  readonly version?: 'v2' | 'v3'
  readonly 'backing-file'?: string
  readonly 'backing-fmt'?: BlockdevCreateArgumentsOptionsQcow2BackingFmt
  readonly encrypt?: BlockdevCreateArgumentsOptionsQcowEncrypt
  readonly 'cluster-size'?: number
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full'
  readonly 'lazy-refcounts'?: boolean
  readonly 'refcount-bits'?: number
  readonly 'compression-type'?: 'zlib' | 'zstd'
}

export type BlockdevCreateArgumentsOptionsQcow2BackingFmt =
  | 'blkdebug'
  | 'blklogwrites'
  | 'blkreplay'
  | 'blkverify'
  | 'bochs'
  | 'cloop'
  | 'compress'
  | 'copy-before-write'
  | 'copy-on-read'
  | 'dmg'
  | 'file'
  | 'snapshot-access'
  | 'ftp'
  | 'ftps'
  | 'gluster'
  | 'host_cdrom'
  | 'host_device'
  | 'http'
  | 'https'
  | 'iscsi'
  | 'luks'
  | 'nbd'
  | 'nfs'
  | 'null-aio'
  | 'null-co'
  | 'nvme'
  | 'parallels'
  | 'preallocate'
  | 'qcow'
  | 'qcow2'
  | 'qed'
  | 'quorum'
  | 'raw'
  | 'rbd'
  | 'replication'
  | 'ssh'
  | 'throttle'
  | 'vdi'
  | 'vhdx'
  | 'vmdk'
  | 'vpc'
  | 'vvfat'

export type BlockdevCreateArgumentsOptionsQed = {
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly 'backing-file'?: string
  readonly 'backing-fmt'?: BlockdevCreateArgumentsOptionsQcow2BackingFmt
  readonly 'cluster-size'?: number
  readonly 'table-size'?: number
}

export type BlockdevCreateArgumentsOptionsRbd = {
  readonly location: BlockdevAddArgumentsRbd
  readonly size: number
  readonly 'cluster-size'?: number
  readonly encrypt?: BlockdevCreateArgumentsOptionsRbdEncrypt
}

export type BlockdevCreateArgumentsOptionsRbdEncrypt = {} & (
  | ({ readonly format: 'luks' } & BlockdevCreateArgumentsOptionsRbdEncryptLuks)
  | ({ readonly format: 'luks2' } & BlockdevCreateArgumentsOptionsRbdEncryptLuks2)
)

export type BlockdevCreateArgumentsOptionsRbdEncryptLuks = {
  readonly 'key-secret': string
  readonly 'cipher-alg'?: BlockdevCreateArgumentsOptionsLuksCipherAlg
}

export type BlockdevCreateArgumentsOptionsRbdEncryptLuks2 = {
  readonly 'key-secret': string
  readonly 'cipher-alg'?: BlockdevCreateArgumentsOptionsLuksCipherAlg
}

export type BlockdevCreateArgumentsOptionsSsh = { readonly location: BlockdevAddArgumentsSsh; readonly size: number }

export type BlockdevCreateArgumentsOptionsVdi = {
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full'
}

export type BlockdevCreateArgumentsOptionsVhdx = {
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly 'log-size'?: number
  readonly 'block-size'?: number
  readonly subformat?: 'dynamic' | 'fixed'
  readonly 'block-state-zero'?: boolean
}

export type BlockdevCreateArgumentsOptionsVmdk = {
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly extents?: readonly (BlockdevAddArguments | string)[]
  readonly subformat?: BlockdevCreateArgumentsOptionsVmdkSubformat
  readonly 'backing-file'?: string
  readonly 'adapter-type'?: 'ide' | 'buslogic' | 'lsilogic' | 'legacyESX'
  readonly hwversion?: string
  readonly toolsversion?: string
  readonly 'zeroed-grain'?: boolean
}

export type BlockdevCreateArgumentsOptionsVmdkSubformat =
  'monolithicSparse' | 'monolithicFlat' | 'twoGbMaxExtentSparse' | 'twoGbMaxExtentFlat' | 'streamOptimized'

export type BlockdevCreateArgumentsOptionsVpc = {
  readonly file: BlockdevAddArguments | string
  readonly size: number
  readonly subformat?: 'dynamic' | 'fixed'
  readonly 'force-size'?: boolean
}

export type BlockdevDelArguments = { readonly 'node-name': string }

export type BlockdevMirrorArguments = {
  readonly 'job-id'?: string
  readonly device: string
  readonly target: string
  readonly replaces?: string
  readonly sync: BlockdevBackupArgumentsSync
  readonly speed?: number
  readonly granularity?: number
  readonly 'buf-size'?: number
  readonly 'on-source-error'?: BlockCommitArgumentsOnError
  readonly 'on-target-error'?: BlockCommitArgumentsOnError
  readonly 'filter-node-name'?: string
  readonly 'copy-mode'?: 'background' | 'write-blocking'
  readonly 'auto-finalize'?: boolean
  readonly 'auto-dismiss'?: boolean
}

export type BlockdevReopenArguments = { readonly options: readonly BlockdevAddArguments[] }

export type DeviceDelArguments = { readonly id: string }

export type HumanMonitorCommandArguments = { readonly 'command-line': string; readonly 'cpu-index'?: number }

export type JobCancelArguments = { readonly id: string }

export type JobCompleteArguments = { readonly id: string }

export type JobDismissArguments = { readonly id: string }

export type NbdServerStartArguments = {
  readonly addr: NbdServerStartArgumentsAddr
  readonly 'tls-creds'?: string
  readonly 'tls-authz'?: string
  readonly 'max-connections'?: number
}

export type NbdServerStartArgumentsAddr = {} & (
  | ({ readonly type: 'inet' } & NbdServerStartArgumentsAddrInet)
  | ({ readonly type: 'unix' } & NbdServerStartArgumentsAddrUnix)
  | ({ readonly type: 'vsock' } & NbdServerStartArgumentsAddrVsock)
  | ({ readonly type: 'fd' } & NbdServerStartArgumentsAddrFd)
)

export type NbdServerStartArgumentsAddrInet = { readonly data: BlockExportAddArgumentsVhostUserBlkAddrInet }

export type NbdServerStartArgumentsAddrUnix = { readonly data: BlockExportAddArgumentsVhostUserBlkAddrUnix }

export type NbdServerStartArgumentsAddrVsock = { readonly data: BlockExportAddArgumentsVhostUserBlkAddrVsock }

export type NbdServerStartArgumentsAddrFd = { readonly data: BlockExportAddArgumentsVhostUserBlkAddrFd }

export type QomGetArguments = { readonly path: string; readonly property: string }

export type QomListArguments = { readonly path: string }

export type QomListResult = {
  readonly name: string
  readonly type: string
  readonly description?: string
  readonly 'default-value'?: unknown
}

export type QomSetArguments = { readonly path: string; readonly property: string; readonly value: unknown }

export type QueryBlockResult = {
  readonly device: string
  readonly qdev?: string
  readonly type: string
  readonly removable: boolean
  readonly locked: boolean
  readonly inserted?: QueryBlockResultInserted
  readonly tray_open?: boolean
  readonly 'io-status'?: 'ok' | 'failed' | 'nospace'
}

export type QueryBlockResultInserted = {
  readonly file: string
  readonly 'node-name'?: string
  readonly ro: boolean
  readonly drv: string
  readonly backing_file?: string
  readonly backing_file_depth: number
  readonly encrypted: boolean
  readonly detect_zeroes: 'off' | 'on' | 'unmap'
  readonly bps: number
  readonly bps_rd: number
  readonly bps_wr: number
  readonly iops: number
  readonly iops_rd: number
  readonly iops_wr: number
  readonly image: QueryBlockResultInsertedImage
  readonly bps_max?: number
  readonly bps_rd_max?: number
  readonly bps_wr_max?: number
  readonly iops_max?: number
  readonly iops_rd_max?: number
  readonly iops_wr_max?: number
  readonly bps_max_length?: number
  readonly bps_rd_max_length?: number
  readonly bps_wr_max_length?: number
  readonly iops_max_length?: number
  readonly iops_rd_max_length?: number
  readonly iops_wr_max_length?: number
  readonly iops_size?: number
  readonly group?: string
  readonly cache: QueryBlockResultInsertedCache
  readonly write_threshold: number
  readonly 'dirty-bitmaps'?: readonly QueryBlockResultInsertedDirtyBitmaps[]
}

export type QueryBlockResultInsertedImage = {
  readonly filename: string
  readonly format: string
  readonly 'dirty-flag'?: boolean
  readonly 'actual-size'?: number
  readonly 'virtual-size': number
  readonly 'cluster-size'?: number
  readonly encrypted?: boolean
  readonly compressed?: boolean
  readonly 'backing-filename'?: string
  readonly 'full-backing-filename'?: string
  readonly 'backing-filename-format'?: string
  readonly snapshots?: readonly QueryBlockResultInsertedImageSnapshots[]
  readonly 'backing-image'?: QueryBlockResultInsertedImage
  readonly 'format-specific'?: QueryBlockResultInsertedImageFormatSpecific
}

export type QueryBlockResultInsertedImageSnapshots = {
  readonly id: string
  readonly name: string
  readonly 'vm-state-size': number
  readonly 'date-sec': number
  readonly 'date-nsec': number
  readonly 'vm-clock-sec': number
  readonly 'vm-clock-nsec': number
  readonly icount?: number
}

export type QueryBlockResultInsertedImageFormatSpecific = {} & (
  | ({ readonly type: 'qcow2' } & QueryBlockResultInsertedImageFormatSpecificQcow2)
  | ({ readonly type: 'vmdk' } & QueryBlockResultInsertedImageFormatSpecificVmdk)
  | ({ readonly type: 'luks' } & QueryBlockResultInsertedImageFormatSpecificLuks)
  | ({ readonly type: 'rbd' } & QueryBlockResultInsertedImageFormatSpecificRbd)
)

export type QueryBlockResultInsertedImageFormatSpecificQcow2 = {
  readonly data: QueryBlockResultInsertedImageFormatSpecificQcow2Data
}

export type QueryBlockResultInsertedImageFormatSpecificQcow2Data = {
  readonly compat: string
  readonly 'data-file'?: string
  readonly 'data-file-raw'?: boolean
  readonly 'extended-l2'?: boolean
  readonly 'lazy-refcounts'?: boolean
  readonly corrupt?: boolean
  readonly 'refcount-bits': number
  readonly encrypt?: QueryBlockResultInsertedImageFormatSpecificQcow2DataEncrypt
  readonly bitmaps?: readonly QueryBlockResultInsertedImageFormatSpecificQcow2DataBitmaps[]
  readonly 'compression-type': 'zlib' | 'zstd'
}

export type QueryBlockResultInsertedImageFormatSpecificQcow2DataEncrypt = {} & (
  | { readonly format: 'aes' }
  | ({ readonly format: 'luks' } & QueryBlockResultInsertedImageFormatSpecificQcow2DataEncryptLuks)
)

export type QueryBlockResultInsertedImageFormatSpecificQcow2DataEncryptLuks = {
  readonly 'cipher-alg': BlockdevCreateArgumentsOptionsLuksCipherAlg
  readonly 'cipher-mode': 'ecb' | 'cbc' | 'xts' | 'ctr'
  readonly 'ivgen-alg': 'plain' | 'plain64' | 'essiv'
  readonly 'ivgen-hash-alg'?: BlockdevCreateArgumentsOptionsLuksIvgenHashAlg
  readonly 'hash-alg': BlockdevCreateArgumentsOptionsLuksIvgenHashAlg
  readonly 'payload-offset': number
  readonly 'master-key-iters': number
  readonly uuid: string
  readonly slots: readonly QueryBlockResultInsertedImageFormatSpecificQcow2DataEncryptLuksSlots[]
}

export type QueryBlockResultInsertedImageFormatSpecificQcow2DataEncryptLuksSlots = {
  readonly active: boolean
  readonly iters?: number
  readonly stripes?: number
  readonly 'key-offset': number
}

export type QueryBlockResultInsertedImageFormatSpecificQcow2DataBitmaps = {
  readonly name: string
  readonly granularity: number
  readonly flags: readonly ('in-use' | 'auto')[]
}

export type QueryBlockResultInsertedImageFormatSpecificVmdk = {
  readonly data: QueryBlockResultInsertedImageFormatSpecificVmdkData
}

export type QueryBlockResultInsertedImageFormatSpecificVmdkData = {
  readonly 'create-type': string
  readonly cid: number
  readonly 'parent-cid': number
  readonly extents: readonly QueryBlockResultInsertedImage[]
}

export type QueryBlockResultInsertedImageFormatSpecificLuks = {
  readonly data: QueryBlockResultInsertedImageFormatSpecificQcow2DataEncryptLuks
}

export type QueryBlockResultInsertedImageFormatSpecificRbd = {
  readonly data: QueryBlockResultInsertedImageFormatSpecificRbdData
}

export type QueryBlockResultInsertedImageFormatSpecificRbdData = { readonly 'encryption-format'?: 'luks' | 'luks2' }

export type QueryBlockResultInsertedCache = {
  readonly writeback: boolean
  readonly direct: boolean
  readonly 'no-flush': boolean
}

export type QueryBlockResultInsertedDirtyBitmaps = {
  readonly name?: string
  readonly count: number
  readonly granularity: number
  readonly recording: boolean
  readonly busy: boolean
  readonly persistent: boolean
  readonly inconsistent?: boolean
}

export type QueryBlockJobsResult = {
  readonly type: string
  readonly device: string
  readonly len: number
  readonly offset: number
  readonly busy: boolean
  readonly paused: boolean
  readonly speed: number
  readonly 'io-status': 'ok' | 'failed' | 'nospace'
  readonly ready: boolean
  readonly status: QueryBlockJobsResultStatus
  readonly 'auto-finalize': boolean
  readonly 'auto-dismiss': boolean
  readonly error?: string
}

export type QueryBlockJobsResultStatus =
  | 'undefined'
  | 'created'
  | 'running'
  | 'paused'
  | 'ready'
  | 'standby'
  | 'waiting'
  | 'pending'
  | 'aborting'
  | 'concluded'
  | 'null'

export type QueryBlockstatsArguments = { readonly 'query-nodes'?: boolean }

export type QueryBlockstatsResult = {
  readonly device?: string
  readonly qdev?: string
  readonly 'node-name'?: string
  readonly stats: QueryBlockstatsResultStats
  readonly 'driver-specific'?: QueryBlockstatsResultDriverSpecific
  readonly parent?: QueryBlockstatsResult
  readonly backing?: QueryBlockstatsResult
}

export type QueryBlockstatsResultStats = {
  readonly rd_bytes: number
  readonly wr_bytes: number
  readonly unmap_bytes: number
  readonly rd_operations: number
  readonly wr_operations: number
  readonly flush_operations: number
  readonly unmap_operations: number
  readonly rd_total_time_ns: number
  readonly wr_total_time_ns: number
  readonly flush_total_time_ns: number
  readonly unmap_total_time_ns: number
  readonly wr_highest_offset: number
  readonly rd_merged: number
  readonly wr_merged: number
  readonly unmap_merged: number
  readonly idle_time_ns?: number
  readonly failed_rd_operations: number
  readonly failed_wr_operations: number
  readonly failed_flush_operations: number
  readonly failed_unmap_operations: number
  readonly invalid_rd_operations: number
  readonly invalid_wr_operations: number
  readonly invalid_flush_operations: number
  readonly invalid_unmap_operations: number
  readonly account_invalid: boolean
  readonly account_failed: boolean
  readonly timed_stats: readonly QueryBlockstatsResultStatsTimedStats[]
  readonly rd_latency_histogram?: QueryBlockstatsResultStatsRdLatencyHistogram
  readonly wr_latency_histogram?: QueryBlockstatsResultStatsRdLatencyHistogram
  readonly flush_latency_histogram?: QueryBlockstatsResultStatsRdLatencyHistogram
}

export type QueryBlockstatsResultStatsTimedStats = {
  readonly interval_length: number
  readonly min_rd_latency_ns: number
  readonly max_rd_latency_ns: number
  readonly avg_rd_latency_ns: number
  readonly min_wr_latency_ns: number
  readonly max_wr_latency_ns: number
  readonly avg_wr_latency_ns: number
  readonly min_flush_latency_ns: number
  readonly max_flush_latency_ns: number
  readonly avg_flush_latency_ns: number
  readonly avg_rd_queue_depth: number
  readonly avg_wr_queue_depth: number
}

export type QueryBlockstatsResultStatsRdLatencyHistogram = {
  readonly boundaries: readonly number[]
  readonly bins: readonly number[]
}

export type QueryBlockstatsResultDriverSpecific = {} & (
  | {
      readonly driver:
        | 'blkdebug'
        | 'blklogwrites'
        | 'blkreplay'
        | 'blkverify'
        | 'bochs'
        | 'cloop'
        | 'compress'
        | 'copy-before-write'
        | 'copy-on-read'
        | 'dmg'
        | 'snapshot-access'
        | 'ftp'
        | 'ftps'
        | 'gluster'
        | 'host_cdrom'
        | 'http'
        | 'https'
        | 'iscsi'
        | 'luks'
        | 'nbd'
        | 'nfs'
        | 'null-aio'
        | 'null-co'
        | 'parallels'
        | 'preallocate'
        | 'qcow'
        | 'qcow2'
        | 'qed'
        | 'quorum'
        | 'raw'
        | 'rbd'
        | 'replication'
        | 'ssh'
        | 'throttle'
        | 'vdi'
        | 'vhdx'
        | 'vmdk'
        | 'vpc'
        | 'vvfat'
    }
  | ({ readonly driver: 'file' | 'host_device' } & QueryBlockstatsResultDriverSpecificFile)
  | ({ readonly driver: 'nvme' } & QueryBlockstatsResultDriverSpecificNvme)
)

export type QueryBlockstatsResultDriverSpecificFile = {
  readonly 'discard-nb-ok': number
  readonly 'discard-nb-failed': number
  readonly 'discard-bytes-ok': number
}

export type QueryBlockstatsResultDriverSpecificNvme = {
  readonly 'completion-errors': number
  readonly 'aligned-accesses': number
  readonly 'unaligned-accesses': number
}

export type QueryCommandsResult = { readonly name: string }

export type QueryJobsResult = {
  readonly id: string
  readonly type: QueryJobsResultType
  readonly status: QueryBlockJobsResultStatus
  readonly 'current-progress': number
  readonly 'total-progress': number
  readonly error?: string
}

export type QueryJobsResultType =
  'commit' | 'stream' | 'mirror' | 'backup' | 'create' | 'amend' | 'snapshot-load' | 'snapshot-save' | 'snapshot-delete'

export type QueryNameResult = { readonly name?: string }

export type QueryNamedBlockNodesArguments = { readonly flat?: boolean }

export type QueryStatusResult = {
  readonly running: boolean
  readonly singlestep: boolean
  readonly status: QueryStatusResultStatus
}

export type QueryStatusResultStatus =
  | 'debug'
  | 'inmigrate'
  | 'internal-error'
  | 'io-error'
  | 'paused'
  | 'postmigrate'
  | 'prelaunch'
  | 'finish-migrate'
  | 'restore-vm'
  | 'running'
  | 'save-vm'
  | 'shutdown'
  | 'suspended'
  | 'watchdog'
  | 'guest-panicked'
  | 'colo'

export type QueryVersionResult = { readonly qemu: QueryVersionResultQemu; readonly package: string }

export type QueryVersionResultQemu = { readonly major: number; readonly minor: number; readonly micro: number }

export type QueryYankResult = {} & (
  | { readonly type: 'migration' }
  | ({ readonly type: 'block-node' } & QueryYankResultBlockNode)
  | ({ readonly type: 'chardev' } & QueryYankResultChardev)
)

export type QueryYankResultBlockNode = { readonly 'node-name': string }

export type QueryYankResultChardev = { readonly id: string }

export type YankArguments = { readonly instances: readonly QueryYankResult[] }
