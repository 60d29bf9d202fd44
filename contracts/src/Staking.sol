// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Checkpoint} from "./Checkpoint.sol";
import {Checkpoints} from "./Checkpoints.sol";

/// @title Staking
/// @notice Takes stake in and tells the exchange what validators ask for.
/// @dev Rules:
///
/// R1. What is asked for here joins the deposits: one count and one hash chain (D2) say all about
///     both and their order. An entry of stake is
///     `keccak256(abi.encode(hash, index, keccak256("stake"), owner, kind, amount,
///     keccak256(identity)))`: a word longer than a deposit's, so neither can pass for the other.
/// R2. These are requests. The exchange decides who validates and what is slashed, and stake comes
///     back by a withdrawal only (W1), which the exchange makes after the unbonding time: nobody
///     outruns a slash here. What it can not take as stake it credits as a deposit to the owner.
/// R3. A validator belongs to the account that registered it, and an account has one. Only
///     that account asks for more, for less, for the exit or to be unjailed. Unknown owners may ask
///     as well: the validators of genesis are registered nowhere, and the exchange knows its own.
/// R4. The identity is the exchange's business: 1 to 512 bytes.
/// R5. `stakeOf` is what an owner has brought less what it asked back, until a checkpoint proves
///     what the exchange has: its subaccount 1000 in the state tree. That is how a slash comes here.
///     The leaf is `keccak256(keccak256(abi.encode(index, account, subaccount, token, amount)))`,
///     in a tree as withdrawals have it.
/// R6. A proof counts if its checkpoint is newer than that of the owner's last proof and has taken
///     in all that the owner asked for. So an old state can not undo what came after it.
abstract contract Staking is Checkpoints {
    uint8 private constant REGISTER = 1;
    uint8 private constant ADD = 2;
    uint8 private constant REMOVE = 3;
    uint8 private constant EXIT = 4;
    uint8 private constant UNJAIL = 5;

    uint16 private constant STAKE_SUBACCOUNT = 1000;
    uint256 private constant IDENTITY_BYTES_MAX = 512;
    bytes32 private constant ENTRY = keccak256("stake");

    /// @dev An owner's part of the registry; two storage slots.
    struct Registration {
        uint128 stake;
        uint64 entries;
        bool isRegistered;
        uint64 checkpoint;
    }

    /// @notice The token that is staked; zero if there is no staking here.
    address public immutable stakeToken;

    mapping(address owner => Registration) private _registrations;

    /// @notice An owner has asked for something.
    /// @param index The entry's number, among deposits (R1).
    /// @param owner Who asked.
    /// @param kind 1 register, 2 add, 3 remove, 4 exit, 5 unjail.
    /// @param amount How much came in (1, 2) or is asked back (3), in the token's base units.
    /// @param identity Of the validator to register; else empty (R4).
    /// @param depositHash The hash chain after this entry (R1).
    event StakeChanged(
        uint64 indexed index,
        address indexed owner,
        uint8 indexed kind,
        uint256 amount,
        bytes identity,
        bytes32 depositHash
    );

    /// @notice A checkpoint has proven what an owner has staked (R5).
    /// @param owner Whose stake.
    /// @param amount How much, in the token's base units.
    /// @param number The checkpoint's number.
    event StakeProven(address indexed owner, uint256 amount, uint64 number);

    /// @notice There is no staking here.
    error NoStaking();

    /// @notice The caller has registered a validator and has not asked for its exit (R3).
    error AlreadyRegistered();

    /// @notice The identity is empty or longer than 512 bytes (R4).
    error WrongIdentity();

    /// @notice The checkpoint is not newer than the owner's last proof, or than its last request (R6).
    error StaleProof();

    constructor(address stakeToken_) {
        require(stakeToken_ == address(0) || isToken[stakeToken_], UnknownToken(stakeToken_));
        stakeToken = stakeToken_;
    }

    /// @notice What an owner has staked, as far as this contract knows (R5).
    function stakeOf(address owner) external view returns (uint256) {
        return _registrations[owner].stake;
    }

    /// @notice The checkpoint that proved an owner's stake last; 0 if none did.
    function stakeCheckpoint(address owner) external view returns (uint64) {
        return _registrations[owner].checkpoint;
    }

    /// @notice Whether an account has registered a validator and not asked for its exit (R3).
    function isRegistered(address owner) external view returns (bool) {
        return _registrations[owner].isRegistered;
    }

    /// @notice Register the caller's validator with its first stake, for which the caller has
    /// approved this contract.
    /// @param amount How much, in the token's base units (D4).
    /// @param identity Who validates, as the exchange reads it (R4).
    /// @return index The entry's number (R1).
    function register(uint256 amount, bytes calldata identity)
        external
        nonReentrant
        returns (uint64 index)
    {
        Registration storage mine = _registrations[msg.sender];
        require(!mine.isRegistered, AlreadyRegistered());
        require(identity.length != 0 && identity.length <= IDENTITY_BYTES_MAX, WrongIdentity());
        mine.isRegistered = true;
        return _bring(mine, REGISTER, amount, identity);
    }

    /// @notice Stake more for the caller's validator. As `register`.
    /// @param amount How much, in the token's base units (D4).
    /// @return index The entry's number (R1).
    function addStake(uint256 amount) external nonReentrant returns (uint64 index) {
        return _bring(_registrations[msg.sender], ADD, amount, _nothing());
    }

    /// @notice Ask some of the caller's stake back; it comes by a withdrawal after unbonding (R2).
    /// @param amount How much, in the token's base units (D4).
    /// @return index The entry's number (R1).
    function unstake(uint256 amount) external nonReentrant returns (uint64 index) {
        require(amount != 0 && amount <= type(uint128).max, WrongAmount());
        Registration storage mine = _registrations[msg.sender];
        uint128 stake = mine.stake;
        mine.stake = amount < stake ? stake - uint128(amount) : 0;
        return _log(mine, REMOVE, amount, _nothing());
    }

    /// @notice Ask that the caller's validator stops, and for all of its stake (R2). Afterwards the
    /// caller may register again.
    /// @return index The entry's number (R1).
    function exit() external nonReentrant returns (uint64 index) {
        Registration storage mine = _registrations[msg.sender];
        mine.stake = 0;
        mine.isRegistered = false;
        return _log(mine, EXIT, 0, _nothing());
    }

    /// @notice Ask that the caller's validator is let in again after it was jailed.
    /// @return index The entry's number (R1).
    function unjail() external nonReentrant returns (uint64 index) {
        return _log(_registrations[msg.sender], UNJAIL, 0, _nothing());
    }

    /// @notice Prove what the exchange has staked for an owner. Anyone may (R5, R6).
    /// @param checkpoint A checkpoint that is kept (C5).
    /// @param index The leaf's number in the state tree.
    /// @param owner Whose stake.
    /// @param amount How much, in the token's base units.
    /// @param proof Siblings from the leaf up to the state root.
    function proveStake(
        Checkpoint calldata checkpoint,
        uint64 index,
        address owner,
        uint256 amount,
        bytes32[] calldata proof
    ) external {
        require(stakeToken != address(0), NoStaking());
        _requireCheckpointed(checkpoint);
        Registration storage theirs = _registrations[owner];
        uint64 number = checkpoint.number;
        require(
            number > theirs.checkpoint && checkpoint.depositCount >= theirs.entries, StaleProof()
        );
        bytes32 inner = keccak256(abi.encode(index, owner, STAKE_SUBACCOUNT, stakeToken, amount));
        bytes32 leaf = keccak256(bytes.concat(inner));
        require(MerkleProof.verifyCalldata(proof, checkpoint.stateRoot, leaf), WrongProof());
        require(amount <= type(uint128).max, WrongAmount());
        theirs.stake = uint128(amount);
        theirs.checkpoint = number;
        emit StakeProven(owner, amount, number);
    }

    /// @dev Enter what the caller brings, and take it in.
    function _bring(Registration storage mine, uint8 kind, uint256 amount, bytes calldata identity)
        private
        returns (uint64 index)
    {
        require(amount != 0 && amount <= type(uint128).max, WrongAmount());
        mine.stake += uint128(amount);
        index = _log(mine, kind, amount, identity);
        _takeIn(stakeToken, amount);
    }

    /// @dev Add an entry of the caller to the chain (R1).
    function _log(Registration storage mine, uint8 kind, uint256 amount, bytes calldata identity)
        private
        returns (uint64 index)
    {
        require(stakeToken != address(0), NoStaking());
        index = depositCount++;
        mine.entries = index + 1;
        bytes32 hash = keccak256(
            abi.encode(depositHash, index, ENTRY, msg.sender, kind, amount, keccak256(identity))
        );
        depositHash = hash;
        emit StakeChanged(index, msg.sender, kind, amount, identity, hash);
    }

    /// @dev Return no bytes, as calldata.
    function _nothing() private pure returns (bytes calldata) {
        return msg.data[:0];
    }
}
