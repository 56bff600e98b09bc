--- About adapters: what was fine-tuned on this machine.
local format = require('intract.format')
local page = require('intract.page')
local say = require('intract.say')
local servers = require('intract.servers')

---@param adapter table
---@return string
local function title(adapter)
  local mark = adapter.active and '*' or ' '
  return ('%s %s (%s, %s)'):format(mark, adapter.id, adapter.status, format.gain(adapter.metrics))
end

---@param answer table of intract.adapters.list
---@return string[]
local function lines_of(answer)
  local lines = {} ---@type string[]
  for _, adapter in ipairs(answer.adapters) do
    lines[#lines + 1] = title(adapter)
    lines[#lines + 1] = ('    %s on %s'):format(adapter.kind, adapter.base)
    lines[#lines + 1] = ('    for %s'):format(vim.fn.fnamemodify(adapter.workspace, ':~'))
    if adapter.trial then
      lines[#lines + 1] = '    ' .. adapter.trial.message
    end
  end
  if #lines == 0 then
    lines[1] = 'There is no adapter yet: `:Intract finetune start` makes one.'
  end
  if #answer.runs > 0 then
    vim.list_extend(lines, { '', 'Runs:' })
    for _, run in ipairs(answer.runs) do
      lines[#lines + 1] = ('  %s  %s: %s'):format(run.id, run.state, run.message)
    end
  end
  return lines
end

---@return string[]
local function ids()
  local answer = servers.ask('intract.adapters.list', 1000)
  return vim.tbl_map(function(adapter)
    return adapter.id
  end, answer and answer.adapters or {})
end

--- Goes on with the adapter that is named, or with the one that the user chooses.
---
---@param id string?
---@param prompt string
---@param go_on fun(id: string)
local function with_adapter(id, prompt, go_on)
  if id then
    go_on(id)
    return
  end
  servers.execute('intract.adapters.list', nil, function(answer)
    if #answer.adapters == 0 then
      say.info('there is no adapter yet: `:Intract finetune start` makes one.')
      return
    end
    vim.ui.select(answer.adapters, { prompt = prompt, format_item = title }, function(adapter)
      if adapter then
        go_on(adapter.id)
      end
    end)
  end)
end

---@param command string
---@param argument? table
local function tell(command, argument)
  servers.execute(command, argument, function(result)
    say.info(result.message)
  end)
end

---@param question string
---@param yes string
---@param bang boolean
---@return boolean
local function is_sure(question, yes, bang)
  return bang or vim.fn.confirm(question, ('&%s\n&No'):format(yes), 2, 'Warning') == 1
end

---@param path string
---@return string
local function absolute(path)
  return vim.fs.normalize(vim.fn.fnamemodify(vim.fn.expand(path), ':p'))
end

---@type table<string, intract.Command>
local sub = {
  list = {
    about = 'show them, and the runs',
    server = 'intract.adapters.list',
    run = function()
      servers.execute('intract.adapters.list', nil, function(answer)
        page.open('intract: adapters', lines_of(answer))
      end)
    end,
  },
  promote = {
    about = 'have one serve in the folder that it was trained on: promote [ID]',
    server = 'intract.adapters.promote',
    names = ids,
    run = function(arguments)
      with_adapter(arguments[1], 'Have it serve', function(id)
        tell('intract.adapters.promote', { id = id })
      end)
    end,
  },
  rollback = {
    about = 'go back to what served before',
    server = 'intract.adapters.rollback',
    run = function(_, bang)
      if is_sure('Go back to what served before the present adapter?', 'Go back', bang) then
        tell('intract.adapters.rollback')
      end
    end,
  },
  remove = {
    about = 'delete one: remove [ID]',
    server = 'intract.adapters.remove',
    names = ids,
    run = function(arguments, bang)
      with_adapter(arguments[1], 'Delete', function(id)
        if is_sure(('Delete the adapter %s? This cannot be undone.'):format(id), 'Delete', bang) then
          tell('intract.adapters.remove', { id = id })
        end
      end)
    end,
  },
  export = {
    about = 'copy one out: export [ID] [FOLDER]',
    server = 'intract.adapters.export',
    names = ids,
    run = function(arguments)
      with_adapter(arguments[1], 'Export', function(id)
        local function export(folder)
          if folder and folder ~= '' then
            tell('intract.adapters.export', { id = id, target = absolute(folder) })
          end
        end
        if arguments[2] then
          export(table.concat(arguments, ' ', 2))
        else
          local default = vim.fs.joinpath(vim.fn.getcwd(), id)
          vim.ui.input({ prompt = 'Into the new folder: ', default = default, completion = 'dir' }, export)
        end
      end)
    end,
  },
  forget = {
    about = 'delete every adapter that has seen a file: forget [FILE]',
    server = 'intract.adapters.forget',
    names = function()
      return vim.fn.getcompletion('', 'file')
    end,
    run = function(arguments, bang)
      local given = table.concat(arguments, ' ')
      local path = given ~= '' and absolute(given) or vim.api.nvim_buf_get_name(0)
      if path == '' then
        say.error('name the file: `:Intract adapters forget FILE`.')
        return
      end
      local question = ('Delete every adapter that has seen %s? This cannot be undone.'):format(path)
      local way = bang and 1 or vim.fn.confirm(question, '&Delete\n&No\nDelete and &fine-tune again', 2, 'Warning')
      if way == 1 or way == 3 then
        tell('intract.adapters.forget', { path = path, retrain = way == 3 })
      end
    end,
  },
}

---@type intract.Command
return { about = 'what was fine-tuned on this machine', default = 'list', sub = sub }
